"""Bundles behind gRPC: constrained beam search for the OpenSearch plugin and for rerankers.

A call walks `calls.py` (deadline, status, metrics, log) -> `service.py` (limits) -> `lanes.py` -> `scheduler.py` (one
owner of the compute, batches across calls) -> `engines/` (the search). `slots.py` holds the bundles; `server.py` starts
and stops the whole. `processes/` has the compute in another process (`compute.py` says what both do).
"""
