"""The search over static shapes, as CUDA graphs hold it, gives what the search of any shape gives.

A CPU has nothing to capture: `repeated` computes again over the same buffers, so all but the graph itself is tested.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.models import Shape, build_generator, random_model, random_space
from genrecall.bundle import Bundle
from genrecall.decoding import GeneratedSids, Generator
from genrecall.decoding.float8 import check_float8, to_float8
from genrecall.decoding.request_tokenizer import TokenizedPrompt
from genrecall.decoding.search import Prefix, beam_search
from genrecall.decoding.tables import ConstraintTables
from genrecall.errors import UserError
from genrecall.rpc import generative_recall_pb2 as pb
from inference_server.batching.batcher import BatchSettings
from inference_server.engines import create_engine, cuda_graphs
from inference_server.engines.base import OutOfMemory
from inference_server.engines.cuda_graphs import CapturedSearch, repeated
from inference_server.engines.torch_engine import StaticSearch, TorchEngine, device_errors
from inference_server.engines.transfer import Transfer
from tests.engines.conftest import QUERIES

SHAPE = Shape(2, 32, 48, 4, 2, 50, (12, 16, 16), 700)
WIDTHS = (1, 7, 20, 33)


@pytest.fixture
def generator() -> Generator:
    return build_generator(random_model(SHAPE), random_space(SHAPE), "children")


def prompts(*lengths: int) -> list[TokenizedPrompt]:
    rng = np.random.default_rng(sum(lengths))
    return [TokenizedPrompt(rng.integers(1, 50, length).tolist()) for length in lengths]


def assert_alike(found: GeneratedSids, expected: GeneratedSids) -> None:
    assert (found.valid == expected.valid).all()
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    for ours, theirs, valid in zip(found.codes, expected.codes, expected.valid, strict=True):
        assert {*map(tuple, ours[valid].tolist())} == {*map(tuple, theirs[valid].tolist())}


@pytest.mark.parametrize("lengths", [(1,), (3, 9, 6), (16, 2, 2, 2, 17)])
def test_a_prefix_padded_to_a_captured_shape_finds_the_same(generator: Generator, lengths: tuple[int, ...]) -> None:
    find = CapturedSearch(generator, repeated)
    for width in WIDTHS * 2:  # a graph is used again: what the last call left must not matter
        assert_alike(generator.search(prompts(*lengths), width, find), generator.search(prompts(*lengths), width))


@pytest.mark.parametrize("kind", ["lm", "encoder"])
def test_the_search_of_a_trained_bundle_with_users_finds_the_same(kind: str, request: pytest.FixtureRequest) -> None:
    bundle: Bundle = request.getfixturevalue(f"{kind}_bundle")
    loaded, find = Generator.load(bundle.generator_dir, bundle.space), None
    find = CapturedSearch(loaded, repeated)
    users = [pb.User(recent_sids=["v1/0/1/2", "v1/1/1/1"]), None, pb.User(gender="f"), None, None]
    engine = create_engine(bundle, "cpu", "torch")
    for given in (users, None, users):
        asked = engine.prepare(QUERIES, given)
        assert_alike(loaded.search(asked, 9, find), loaded.search(asked, 9))


def static_engine(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> tuple[TorchEngine, CapturedSearch]:
    """An engine that captures, as on CUDA, and what captures."""
    monkeypatch.setattr(cuda_graphs, "cuda_graphs", lambda device: repeated)
    engine = TorchEngine(bundle, "cpu")
    engine._search = StaticSearch(engine._generator)
    return engine, engine._search.captured


def test_an_engine_captures_every_batch_length_and_width_before_it_serves(
    lm_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, search = static_engine(lm_bundle, monkeypatch)
    engine.capture([8, 20], BatchSettings(max_batch=6))
    captured = set(search._captured)
    assert {shape.batch for shape in captured} == {1, 2, 4, 8}
    assert {shape.width for shape in captured} == {8, 20}
    user = pb.User(gender="f", recent_sids=["v1/0/1/2", "v1/1/1/1"] * 20)  # more than the generator reads
    for texts, width in product((["red"], QUERIES, QUERIES[:3], ["shoe " * 90]), (8, 20)):
        engine.search(engine.prepare(texts), width)
        engine.search(engine.prepare(texts, [user] * len(texts)), width)
    assert set(search._captured) == captured


def test_wide_beams_are_captured_for_the_batches_that_fit(lm_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, search = static_engine(lm_bundle, monkeypatch)
    batches = BatchSettings(max_batch=8, max_batch_tokens=150)
    engine.capture([8, 20], batches)
    wide = {shape.batch for shape in search._captured if shape.width == 20 and shape.length == 16}
    assert max(wide) == 2 == batches.entries(16, 2 * 20)


def test_memory_that_ran_out_is_told_apart_from_a_lost_device() -> None:
    with pytest.raises(OutOfMemory, match="CUDA out of memory"), device_errors():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")


def test_stacked_matrices_compute_the_same(generator: Generator) -> None:
    expected = generator.search(prompts(4, 9), 20)
    generator.decoder.pack()
    assert_alike(generator.search(prompts(4, 9), 20), expected)


def test_float8_finds_nearly_the_same(generator: Generator) -> None:
    exact = generator.search(prompts(4, 9), 20)
    model = random_model(SHAPE, dtype=torch.bfloat16)
    light = build_generator(model, random_space(SHAPE), "children")
    to_float8(light.decoder)
    found = light.search(prompts(4, 9), 20)
    assert (found.codes != exact.codes).any(), "nothing was rounded"
    shared = [len({*map(tuple, a)} & {*map(tuple, b)}) for a, b in zip(found.codes, exact.codes, strict=True)]
    assert np.mean(shared) > 12
    with pytest.raises(UserError, match="needs a CUDA device"):
        check_float8(torch.device("cpu"))


def test_arrays_go_to_the_device_and_back_unchanged() -> None:
    transfer = Transfer(torch.device("cpu"))
    rng = np.random.default_rng(0)
    for size in (1, 3, 40_000):  # grows its buffers, then uses them again
        arrays = [rng.integers(-9, 9, (size, 3)), rng.random(size) > 0.5, rng.random((2, size), np.float32)]
        sent = transfer.to_device(arrays)
        kept = [tensor.clone() for tensor in sent]
        transfer.to_device([np.zeros((size, 9), np.int64)])  # the next batch must not change this one
        for array, tensor, back, copy in zip(arrays, sent, transfer.to_host(sent), kept, strict=True):
            assert tensor.numpy().dtype == back.dtype == array.dtype
            assert (back == array).all()
            assert torch.equal(tensor, copy)


class OnDevice(TorchDispatchMode):
    """Fails at whatever makes the host wait for the device, or copies between the two."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        assert "_local_scalar_dense" not in str(func), "a value is read on the host"
        out = func(*args, **kwargs or {})
        for tensor in out if isinstance(out, tuple | list) else [out]:
            assert not isinstance(tensor, torch.Tensor) or tensor.device.type == "cuda", f"{func} made {tensor.device}"
        return out


@pytest.fixture
def pretended() -> Iterator[FakeTensorMode]:
    """A CUDA device that has shapes and no values: an operator that needs a value fails."""
    with FakeTensorMode() as mode:
        yield mode


@pytest.mark.parametrize(("normalizer", "evidence"), [("children", False), ("vocabulary", False), ("children", True)])
def test_a_search_never_makes_the_host_wait_for_the_device(
    normalizer: str, evidence: bool, pretended: FakeTensorMode
) -> None:
    space = random_space(SHAPE)
    with torch.device("cuda"):
        made = build_generator(random_model(SHAPE, "cuda"), space, normalizer)  # type: ignore[arg-type]
        prefix = Prefix(torch.zeros(2, 8, SHAPE.hidden), torch.ones(2, 8, dtype=torch.bool))
        if evidence:
            prefix = replace(prefix, evidence=torch.zeros(2, len(space)), gate=torch.full((2,), 0.5))
        tables = ConstraintTables.build(space, "cuda")
    made.decoder.pack()
    with torch.inference_mode(), OnDevice():
        beams = beam_search(made.decoder, made.heads, tables, prefix, 20)
    assert beams.sid.device.type == "cuda"
