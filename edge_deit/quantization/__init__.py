"""Precision schemes, and what makes a float graph easy to quantize."""
