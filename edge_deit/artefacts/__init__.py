"""An exported file: its manifest, its float model, and what runs it."""
