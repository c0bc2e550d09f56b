"""Where arrays live and where work is done: host or GPU, memory, threads, a step that is replayed."""
