"""One part a file, each `run(bench)`; a part runs in a process of its own (`benchmarks.gpu.bench`)."""
