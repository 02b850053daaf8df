"""Jobs, results and failures of calls as messages of `wire.proto`, and back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np

from genrecall.decoding.request_tokenizer import TokenizedPrompt
from genrecall.sid import LEVELS
from inference_server.admission.overload import Busy
from inference_server.batching.batcher import Full
from inference_server.batching.compute import EngineFailed
from inference_server.batching.scheduler import Expired, Job, Stopped
from inference_server.batching.workloads import Found
from inference_server.bundles.encode import Tokens
from inference_server.processes import wire_pb2 as wire

LANES = {"search": wire.SEARCH, "score": wire.SCORE, "encode": wire.ENCODE}
NAMES = {value: name for name, value in LANES.items()}


def pack_job(job: Job) -> wire.Job:
    match job.payload:
        case TokenizedPrompt():
            return _prompt(job, job.payload)
        case Tokens(ids, category):
            return wire.Job(length=job.length, cost=job.cost, tokens=_bytes(ids, np.int32), category=category)
        case (prompt, codes):
            message = _prompt(job, prompt)
            message.codes = _bytes(codes, np.int64)
            return message
    raise TypeError(f"no message for a job of {type(job.payload).__name__}")


def unpack_job(lane: int, message: wire.Job) -> Job:
    tokens: list[int] = np.frombuffer(message.tokens, np.int32).tolist()
    payload: Any
    if lane == wire.ENCODE:
        payload = Tokens(tokens, list(message.category))
    else:
        payload = TokenizedPrompt(
            tokens, np.frombuffer(message.recent, np.int64), np.frombuffer(message.profile, np.int64)
        )
        if lane == wire.SCORE:
            payload = payload, _sids(message.codes, np.int64)
    return Job(payload, message.length, message.cost)


def pack_results(lane: int, results: Sequence[Any]) -> list[wire.Result]:
    if lane == wire.SEARCH:
        return [wire.Result(codes=_bytes(f.codes, np.int32), scores=_bytes(f.scores, np.float32)) for f in results]
    if lane == wire.SCORE:
        return [wire.Result(scores=_bytes(scores, np.float32)) for scores in results]
    return [wire.Result(codes=_bytes(codes, np.int32)) for codes in results]


def unpack_results(lane: int, results: Sequence[wire.Result]) -> list[Any]:
    if lane == wire.SEARCH:
        return [Found(_sids(r.codes, np.int32), np.frombuffer(r.scores, np.float32)) for r in results]
    if lane == wire.SCORE:
        return [np.frombuffer(r.scores, np.float32) for r in results]
    return [np.frombuffer(r.codes, np.int32) for r in results]


def pack_failure(error: BaseException, pushback_ms: int) -> wire.Failed:
    match error:
        case Full():
            return wire.Failed(reason=wire.Failed.FULL, pushback_ms=pushback_ms)
        case Busy():
            return wire.Failed(reason=wire.Failed.BUSY, message=str(error), pushback_ms=pushback_ms)
        case Expired():
            return wire.Failed(reason=wire.Failed.EXPIRED)
        case Stopped() | asyncio.CancelledError():
            return wire.Failed(reason=wire.Failed.STOPPED)
    return wire.Failed(reason=wire.Failed.ERROR, message=type(error).__name__)


def unpack_failure(failed: wire.Failed) -> Exception:
    match failed.reason:
        case wire.Failed.FULL:
            return Full()
        case wire.Failed.BUSY:
            return Busy(failed.message)
        case wire.Failed.EXPIRED:
            return Expired()
        case wire.Failed.STOPPED:
            return Stopped()
    return EngineFailed(failed.message)


def _prompt(job: Job, prompt: TokenizedPrompt) -> wire.Job:
    return wire.Job(
        length=job.length,
        cost=job.cost,
        tokens=_bytes(prompt.tokens, np.int32),
        recent=_bytes(prompt.recent, np.int64),
        profile=_bytes(prompt.profile, np.int64),
    )


def _bytes(values: Any, dtype: type[np.number]) -> bytes:
    return np.asarray(values, dtype).tobytes()


def _sids(data: bytes, dtype: type[np.number]) -> np.ndarray:
    return np.frombuffer(data, dtype).reshape(-1, LEVELS)
