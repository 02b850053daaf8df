"""A real gRPC server in the test's process, with an engine whose answers and speed the test decides."""

import asyncio
import threading
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest

from genrecall.bundle import Bundle
from genrecall.config.server import ServerSection
from genrecall.decoding import GeneratedSids
from genrecall.item_table import ItemTable
from genrecall.rpc import generative_recall_pb2 as pb
from genrecall.rpc.generative_recall_pb2_grpc import GenerativeRecallStub
from genrecall.sid import SidSpace
from inference_server.batching.executor import Executor
from inference_server.bundles.loaded import LoadedBundles
from inference_server.server import Running, start_service, stop
from inference_server.service import GenerativeRecall
from inference_server.telemetry.metrics import Metrics

SIDS = np.array([[0, 1, 2], [3, 0, 0], [1, 1, 1]], np.int32)
SCORES = np.array([-0.1, -2.0, -5.0], np.float32)


class ThreeSids:
    """Answers every text with the same three SIDs, once `gate` is open; a prompt is its text, a token a character."""

    name = "three-sids"
    max_beam_width = 2000

    def __init__(self, codebook="v1"):
        manifest = {
            "codebook": codebook,
            "model": "lm-0",
            "kind": "lm",
            "level_sizes": [4, 4, 4],
            "sids": 3,
            "items": 5,
        }
        self.bundle = Bundle(Path("nowhere"), manifest)
        space = SidSpace.of(SIDS, (4, 4, 4))
        table = ItemTable.of([*"abcde"], SIDS[[0, 1, 1, 1, 2]], space)
        vars(self.bundle).update(space=space, item_table=table)  # where it keeps what it has read
        self.gate = threading.Event()
        self.gate.set()
        self.running = threading.Event()
        self.calls: list[list[str]] = []
        self.scored: list[int] = []
        self.widths: list[int] = []
        self.prepared = 0

    def prepare(self, texts, users=None, remember=None):
        self.users = users
        self.prepared += len(texts)
        return list(texts)

    def length(self, prompt):
        return len(prompt)

    def search(self, prompts, width):
        self.calls.append(list(prompts))
        self.widths.append(width)
        self._turn()
        n = min(width, len(SIDS))
        codes = np.zeros((len(prompts), width, 3), np.int32)
        scores, valid = np.full(codes.shape[:2], -np.inf, np.float32), np.zeros(codes.shape[:2], bool)
        codes[:, :n], scores[:, :n], valid[:, :n] = SIDS[:n], SCORES[:n], True
        return GeneratedSids(codes, scores, valid)

    def score(self, prompt, codes):
        self.scored.append(len(codes))
        self._turn()
        known = {tuple(sid): score for sid, score in zip(SIDS.tolist(), SCORES, strict=True)}
        return np.array([known.get(tuple(sid), -np.inf) for sid in codes.tolist()], np.float32)

    def _turn(self):
        self.running.set()
        assert self.gate.wait(30)


def loaded(engine):
    return LoadedBundles({engine.bundle.codebook: engine}, engine.bundle.codebook)


async def start(loaded: LoadedBundles, section: ServerSection) -> Running:
    return await start_service(GenerativeRecall(section, Executor(loaded, section, Metrics())))


@asynccontextmanager
async def served(*engines, **settings):
    section = ServerSection(**{"port": 0, "shutdown_grace_s": 5, "shutdown_delay_s": 0, **settings})
    running = await start(LoadedBundles({e.bundle.codebook: e for e in engines}, engines[0].bundle.codebook), section)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel:
            yield GenerativeRecallStub(channel), running, channel
    finally:
        await stop(running)


async def pending(running, count):
    """Until so many entries wait or run."""
    async with asyncio.timeout(10):
        while running.service.executor.pending != count:
            await asyncio.sleep(0.005)


def request(*texts, **fields):
    return pb.GenerateRequest(queries=[pb.Query(text=text) for text in texts], **fields)


def score_request(*sids, text="red shoes", **fields):
    return pb.ScoreRequest(query=pb.Query(text=text), codes=[code for sid in sids for code in sid], **fields)


async def refusal(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value
