"""Tasks of foreign benchmarks: instructions of our own, and the benchmark's own success criterion."""
