"""What runs in a benchmark's own Python: scripts that import the standard library, NumPy and the benchmark, and nothing of ours."""
