"""What one would write in an afternoon: a generator behind gRPC, one request at a time, each as it comes.

    python -m benchmarks.plain_server --bundles DIR [--engine onnx|torch] [--threads 1]

The same contract, engine and weights as `genrecall serve`, and nothing else of it: no batches, no bound of the queue,
no look at deadlines beyond what gRPC itself does (a call that is cancelled while it waits is not begun).
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from genrecall import bundle
from genrecall.rpc import generative_recall_pb2 as pb
from genrecall.rpc.generative_recall_pb2_grpc import GenerativeRecallServicer, add_GenerativeRecallServicer_to_server
from inference_server.engines import Engine, create_engine


class PlainRecall(GenerativeRecallServicer):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def Generate(self, request: pb.GenerateRequest, context: grpc.ServicerContext) -> pb.GenerateResponse:
        found = self._engine.search(self._engine.prepare([query.text for query in request.queries]), request.k)
        counts = found.valid.sum(axis=1)
        results = [
            pb.Generated(codes=found.codes[row, :n].ravel().tolist(), scores=found.scores[row, :n].tolist())
            for row, n in enumerate(counts)
        ]
        held = self._engine.bundle
        return pb.GenerateResponse(codebook=held.codebook, model=held.model, results=results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", type=Path, required=True)
    parser.add_argument("--engine", choices=["onnx", "torch"], default="torch")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()

    import torch

    torch.set_num_threads(asked.threads)
    opened = bundle.open(bundle.resolve(asked.bundles))
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    engine = create_engine(opened, "cpu", asked.engine, threads=asked.threads)
    add_GenerativeRecallServicer_to_server(PlainRecall(engine), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(json.dumps({"port": port}), flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
