"""The baseline of benchmarks.serving: a generator behind a plain gRPC server, one request at a time.

    python -m benchmarks.plain_server --bundles DIR [--engine onnx|torch] [--threads 1]

The same contract, engine and weights as `genrecall serve`, without its batching, queue limit or deadline handling
beyond that of gRPC itself (a call cancelled while it waits is not started).
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
        generated = self._engine.search(self._engine.prepare([query.text for query in request.queries]), request.k)
        counts = generated.valid.sum(axis=1)
        results = [
            pb.Generated(codes=generated.codes[row, :n].ravel().tolist(), scores=generated.scores[row, :n].tolist())
            for row, n in enumerate(counts)
        ]
        bundle = self._engine.bundle
        return pb.GenerateResponse(codebook=bundle.codebook, model=bundle.model, results=results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", type=Path, required=True)
    parser.add_argument("--engine", choices=["onnx", "torch"], default="torch")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()

    import torch

    torch.set_num_threads(args.threads)
    opened = bundle.open(bundle.resolve(args.bundles))
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    engine = create_engine(opened, "cpu", args.engine, threads=args.threads)
    add_GenerativeRecallServicer_to_server(PlainRecall(engine), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(json.dumps({"port": port}), flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
