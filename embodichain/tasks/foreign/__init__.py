"""Tasks of benchmarks of others: goals in our words, and the judgement of the benchmark itself."""
