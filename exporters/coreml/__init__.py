"""Core ML: `.mlpackage` folders; `export` says what each precision means."""
