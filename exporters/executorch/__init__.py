"""ExecuTorch: `.pte` files for XNNPACK or Core ML; `export` says what each precision means."""
