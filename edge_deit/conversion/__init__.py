"""From weights to checked files in every format."""
