"""ONNX: `.onnx` files; `export` says what each precision means."""
