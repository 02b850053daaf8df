"""Loads the bundles to serve, tests them, and replaces them while the server runs."""
