"""Queues the work of calls, forms batches of it and runs them, one at a time."""
