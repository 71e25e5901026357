"""From results to the tables in docs."""
