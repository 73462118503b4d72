"""Speed, memory and meaning, measured: `python -m benchmarks`."""
