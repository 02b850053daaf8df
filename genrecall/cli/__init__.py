"""The `genrecall` command: one file a verb group, heavy imports inside functions."""
