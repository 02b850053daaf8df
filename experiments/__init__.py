"""Experiments behind docs/results: what trains many variants and compares them. Not part of the product."""
