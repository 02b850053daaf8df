"""The bundles a server holds: loading, self-test, hot reload, encoding of items."""
