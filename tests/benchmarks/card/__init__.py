"""The parts of tests/benchmarks/gpu.py, each run in a process of its own."""
