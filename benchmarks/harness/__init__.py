"""What the benchmark scripts share: candidates, processes, real data."""
