"""Real servers of others, for tests and benchmarks."""
