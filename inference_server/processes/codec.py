"""Work items, results and failures of calls as messages of `wire.proto`, and back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np

from genrecall.decoding.request_tokenizer import TokenizedPrompt
from genrecall.sid import LEVELS
from inference_server.admission.overload import LimitExceeded
from inference_server.batching.batcher import QueueFull
from inference_server.batching.encode_workload import TokenizedItem
from inference_server.batching.executor import EngineProcessError
from inference_server.batching.scheduler import DeadlineExceeded, ShuttingDown, WorkItem
from inference_server.batching.workloads import SearchResult
from inference_server.processes import wire_pb2 as wire

WORKLOADS = {"search": wire.SEARCH, "score": wire.SCORE, "encode": wire.ENCODE}
Failure = wire.CallFailure


def pack_work_item(work_item: WorkItem) -> wire.WorkItem:
    match work_item.payload:
        case TokenizedPrompt():
            return _pack_prompt(work_item, work_item.payload)
        case TokenizedItem(ids, category):
            tokens = _bytes(ids, np.int32)
            return wire.WorkItem(length=work_item.length, cost=work_item.cost, tokens=tokens, category=category)
        case (prompt, codes):
            message = _pack_prompt(work_item, prompt)
            message.codes = _bytes(codes, np.int64)
            return message
    raise TypeError(f"no message for a payload of {type(work_item.payload).__name__}")


def unpack_work_item(workload: int, message: wire.WorkItem) -> WorkItem:
    tokens: list[int] = np.frombuffer(message.tokens, np.int32).tolist()
    payload: Any
    if workload == wire.ENCODE:
        payload = TokenizedItem(tokens, list(message.category))
    else:
        payload = TokenizedPrompt(
            tokens,
            np.frombuffer(message.recent, np.int64),
            np.frombuffer(message.profile, np.int64),
            np.frombuffer(message.terms, np.int64),
            message.gate,
        )
        if workload == wire.SCORE:
            payload = payload, _sids(message.codes, np.int64)
    return WorkItem(payload, message.length, message.cost)


def pack_results(workload: int, results: Sequence[Any]) -> list[wire.WorkResult]:
    if workload == wire.SEARCH:
        return [wire.WorkResult(codes=_bytes(r.codes, np.int32), scores=_bytes(r.scores, np.float32)) for r in results]
    if workload == wire.SCORE:
        return [wire.WorkResult(scores=_bytes(scores, np.float32)) for scores in results]
    return [wire.WorkResult(codes=_bytes(codes, np.int32)) for codes in results]


def unpack_results(workload: int, results: Sequence[wire.WorkResult]) -> list[Any]:
    if workload == wire.SEARCH:
        return [SearchResult(_sids(r.codes, np.int32), np.frombuffer(r.scores, np.float32)) for r in results]
    if workload == wire.SCORE:
        return [np.frombuffer(r.scores, np.float32) for r in results]
    return [np.frombuffer(r.codes, np.int32) for r in results]


def pack_failure(error: BaseException, pushback_ms: int) -> wire.CallFailure:
    match error:
        case QueueFull():
            return Failure(reason=Failure.QUEUE_FULL, pushback_ms=pushback_ms)
        case LimitExceeded():
            return Failure(reason=Failure.LIMIT_EXCEEDED, message=str(error), pushback_ms=pushback_ms)
        case DeadlineExceeded():
            return Failure(reason=Failure.DEADLINE_EXCEEDED)
        case ShuttingDown() | asyncio.CancelledError():
            return Failure(reason=Failure.SHUTTING_DOWN)
    return Failure(reason=Failure.ERROR, message=type(error).__name__)


def unpack_failure(failure: wire.CallFailure) -> Exception:
    match failure.reason:
        case Failure.QUEUE_FULL:
            return QueueFull()
        case Failure.LIMIT_EXCEEDED:
            return LimitExceeded(failure.message)
        case Failure.DEADLINE_EXCEEDED:
            return DeadlineExceeded()
        case Failure.SHUTTING_DOWN:
            return ShuttingDown()
    return EngineProcessError(failure.message)


def _pack_prompt(work_item: WorkItem, prompt: TokenizedPrompt) -> wire.WorkItem:
    return wire.WorkItem(
        length=work_item.length,
        cost=work_item.cost,
        tokens=_bytes(prompt.tokens, np.int32),
        recent=_bytes(prompt.recent, np.int64),
        profile=_bytes(prompt.profile, np.int64),
        terms=_bytes(prompt.terms, np.int64),
        gate=prompt.gate,
    )


def _bytes(values: Any, dtype: type[np.number]) -> bytes:
    return np.asarray(values, dtype).tobytes()


def _sids(data: bytes, dtype: type[np.number]) -> np.ndarray:
    return np.frombuffer(data, dtype).reshape(-1, LEVELS)
