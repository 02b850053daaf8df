"""Who runs next, and with whom: queue, batches, workloads, and the one owner of the compute."""
