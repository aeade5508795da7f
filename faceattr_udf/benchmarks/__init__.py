"""Speed benchmarks: interleaved measurements against other libraries, and against the hardware's limit."""
