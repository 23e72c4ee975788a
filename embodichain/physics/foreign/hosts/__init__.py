"""Scripts that run in a benchmark's own Python. They import the standard library, NumPy and the benchmark, but not this package."""
