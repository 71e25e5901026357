"""Limits, the file that sets them, and the verdict on a report."""
