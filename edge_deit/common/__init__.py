"""What every package uses: errors, files, checked JSON, quiet, console, progress, the host."""
