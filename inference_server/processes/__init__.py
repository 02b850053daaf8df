"""One server in several processes: fronts that speak gRPC, all on one port, before one engine process.

`supervisor.py` starts and ends them. A front (`front.py`) has the service of a single process, whose compute is a link
(`link.py`) to the hub (`hub.py`) of the engine process (`engine.py`). `codec.py` writes what goes over it as messages
of `wire.proto`, `frames.py` as bytes.
"""
