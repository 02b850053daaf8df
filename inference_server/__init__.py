"""Bundles behind gRPC: constrained beam search for the OpenSearch plugin and for rerankers.

A call walks `service.py` (limits, deadline) -> `queue.py` (one owner of the compute) -> `engines/` (the search).
`slots.py` holds the bundles; `server.py` starts and stops the whole.
"""
