"""How far outputs are apart, and intervals for paired photos and times."""
