"""From a file, folder or hub name to a strictly loaded model, and back to a file."""
