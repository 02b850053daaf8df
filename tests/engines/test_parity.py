"""Every engine that this machine can run answers as the generator does in torch, float32, on the CPU.

That one is compared with Hugging Face's `generate` and with exhaustive enumeration elsewhere (tests/decoding).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from genrecall import tensorrt
from genrecall.bundle import Bundle
from genrecall.decoding import Generator
from genrecall.rpc import generative_recall_pb2 as pb
from inference_server.engines import Engine, create_engine
from tests.engines.conftest import QUERIES
from trainer.export.attach import attach_tensorrt
from trainer.export.tensorrt import Profile

EXACT = 1e-3  # largest difference of a log-probability


def _onnx_cuda() -> bool:
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


HERE: dict[str, Callable[[], bool]] = {
    "torch-cpu": lambda: True,
    "onnx-cpu": lambda: True,
    "torch-cuda": torch.cuda.is_available,
    "onnx-cuda": _onnx_cuda,
    "tensorrt-cuda": lambda: torch.cuda.is_available() and tensorrt.installed(),
}


@pytest.fixture(params=[pytest.param(n, marks=[pytest.mark.gpu] if "cuda" in n else []) for n in HERE])
def engine(request: pytest.FixtureRequest, exported: Bundle) -> Engine:
    name, device = request.param.split("-")
    if not HERE[request.param]():
        pytest.skip(f"this machine cannot run {name} on {device}")
    if name == "tensorrt":
        attach_tensorrt(exported, "float32", [Profile(8, 64, 64)])
    return create_engine(exported, device, name)


@pytest.fixture
def reference(exported: Bundle) -> Generator:
    return Generator.load(exported.generator_dir, exported.space)


def someone(*recent: str) -> pb.User:
    return pb.User(recent_sids=[f"v1/{sid}" for sid in recent])


USERS = [None, someone("0/1/2"), someone("3/3/0", "1/2/1", "9/9/9"), None, someone("2/2/2", "2/1/2", "0/0/2", "1/1/2")]


@pytest.mark.parametrize("width", [1, 7, 50])
@pytest.mark.parametrize("users", [None, USERS], ids=["nobody", "users"])
def test_a_batch_finds_the_same_sids_with_the_same_scores(
    engine: Engine, reference: Generator, users: list[pb.User | None] | None, width: int
) -> None:
    prompts = engine.prepare(QUERIES, users)
    found, expected = engine.search(prompts, width), reference.search(prompts, width)
    assert found.codes.shape == (len(QUERIES), width, 3)
    assert (found.valid == expected.valid).all()
    np.testing.assert_allclose(found.scores, expected.scores, atol=EXACT)
    for ours, theirs, valid in zip(found.codes, expected.codes, expected.valid, strict=True):
        assert {*map(tuple, ours[valid].tolist())} == {*map(tuple, theirs[valid].tolist())}


def test_a_user_makes_a_difference_and_an_unknown_one_none(engine: Engine) -> None:
    def scores(user: pb.User | None) -> np.ndarray:
        return engine.search(engine.prepare(["red shoe"], [user]), 48).scores

    np.testing.assert_allclose(scores(pb.User(gender="x")), scores(None), atol=1e-4)
    assert np.abs(scores(someone("0/1/2", "1/2/2")) - scores(None)).max() > 1e-2


def test_what_is_remembered_of_a_query_counts_unless_it_is_not_to(engine: Engine, reference: Generator) -> None:
    prompts = engine.prepare(QUERIES, remember=[False] * len(QUERIES))
    found, expected = engine.search(prompts, 20), reference.search(prompts, 20)
    np.testing.assert_allclose(found.scores, expected.scores, atol=EXACT)
    changed = np.abs(engine.search(engine.prepare(QUERIES), 20).scores - found.scores).max(axis=1) > 1e-2
    assert changed.tolist() == [True, False, True, False, False]
    with_it, without = (engine.prepare(["shoe RED"], remember=[one])[0] for one in (True, False))
    codes = reference.space.sids[[40]]
    assert engine.score(with_it, codes)[0] > engine.score(without, codes)[0] + 1, "as it does in a score"


def test_alone_and_in_a_batch_a_query_gets_the_same_answer(engine: Engine) -> None:
    many = engine.search(engine.prepare(QUERIES), 20)
    for row, text in enumerate(QUERIES):
        alone = engine.search(engine.prepare([text]), 20)
        np.testing.assert_allclose(alone.scores[0], many.scores[row], atol=1e-4)


def test_sids_score_what_the_search_says_in_the_order_asked(engine: Engine, reference: Generator) -> None:
    prompt = engine.prepare(["red shoe"], [someone("0/1/2")])[0]
    every = reference.search([prompt], 48)
    shuffled = np.random.default_rng(0).permutation(48)
    codes = np.concatenate([every.codes[0][shuffled], [[0, 0, 2], [99, 0, 0], every.codes[0][5]]])
    found = engine.score(prompt, codes)
    np.testing.assert_allclose(found[:48], every.scores[0][shuffled], atol=EXACT)
    assert found[49] == -np.inf, "no item has 99/0/0"
    np.testing.assert_allclose(found[50], every.scores[0][5], atol=EXACT)
    assert len(engine.score(prompt, np.empty((0, 3), dtype=np.int32))) == 0


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_a_lighter_onnx_export_finds_nearly_the_same(lm_bundle: Bundle, dtype: str) -> None:
    exact, light = (create_engine(lm_bundle, "cpu", "onnx", d) for d in ("float32", dtype))
    prompts = exact.prepare(QUERIES)
    one, other = exact.search(prompts, 48), light.search(prompts, 48)
    assert light.name == f"onnx-cpu-{dtype}"
    shared = [len({*map(tuple, a[:10])} & {*map(tuple, b[:10])}) for a, b in zip(one.codes, other.codes, strict=True)]
    assert np.mean(shared) >= 8
    assert np.abs(np.sort(one.scores) - np.sort(other.scores)).max() < 0.5


def test_torch_serves_bfloat16(lm_bundle: Bundle) -> None:
    exact, light = (create_engine(lm_bundle, "cpu", "torch", d) for d in ("float32", "bfloat16"))
    prompts = exact.prepare(QUERIES)
    assert light.name == "torch-cpu-bfloat16"
    assert np.abs(exact.search(prompts, 10).scores - light.search(prompts, 10).scores).max() < 0.5
