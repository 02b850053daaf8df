"""Everything that needs a GPU, in one command for a bare machine without network: see `__main__`."""
