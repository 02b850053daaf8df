"""A real OpenSearch node on this machine, without containers: for trials and tests."""
