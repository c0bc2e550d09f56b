"""The device of arrays and work, host or GPU: placement, memory, threads, and steps that are recorded and replayed."""
