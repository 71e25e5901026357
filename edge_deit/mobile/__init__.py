"""Golden cases, and what goes into the phone apps."""
