"""Tasks of other people's benchmarks: goals in our words, and the judgement of the benchmark itself."""
