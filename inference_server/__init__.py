"""Bundles behind gRPC: constrained beam search for the OpenSearch plugin, rerankers and ingest jobs.

`server.py` starts and stops everything. A call passes `admission/interceptor.py` and reaches its method in `service.py`
(inside `middleware.py`: status, metrics, log); it is validated and admitted (`admission/`), queued and batched
(`batching/`), and computed by an engine (`engines/`). `bundles/` loads what is served, `telemetry/` records what
happens.
"""
