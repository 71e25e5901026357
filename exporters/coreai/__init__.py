"""Core AI: `.aimodel` folders; `export` says what each precision means."""
