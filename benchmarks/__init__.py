"""Side-by-side timings; each module runs with ``python -m benchmarks.<name>``."""
