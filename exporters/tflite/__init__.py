"""LiteRT: `.tflite` files; `export` says what each precision means."""
