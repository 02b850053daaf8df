"""Reading a dataset: formats, field mapping, checks of values, rejected rows, behaviour logs, splits."""
