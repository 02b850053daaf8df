"""One server in several processes: frontends that speak gRPC, all on one port, and one engine process that computes.

`supervisor.py` starts and stops them (`child.py` is what they have in common). A frontend (`frontend.py`) runs the same
service as a single process; its executor (`remote_executor.py`) sends the work to that of the engine process
(`engine.py`, `shared_executor.py`). `codec.py` turns the work into messages of `wire.proto`, `frames.py` into bytes.
"""
