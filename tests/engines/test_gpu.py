"""The captured search on a CUDA device: the answers of the CPU, without making the host wait."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.models import build_generator, random_model, random_space
from genrecall.decoding import Generator
from genrecall.decoding.request_tokenizer import TokenizedPrompt
from inference_server.engines.torch_engine import StaticSearch
from tests.engines.test_static_search import SHAPE, assert_alike, prompts

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def generator(device: str, dtype: torch.dtype = torch.float32) -> Generator:
    torch.manual_seed(0)
    model = random_model(SHAPE).to(device, dtype)
    return build_generator(model, random_space(SHAPE), "children", served=True)


@pytest.mark.parametrize("lengths", [(1,), (3, 9, 6), (16, 2, 2, 2, 17), (60,) * 33])
def test_replays_find_what_the_cpu_finds(lengths: tuple[int, ...]) -> None:
    exact, search = generator("cpu"), StaticSearch(generator("cuda"))
    for width in (1, 7, 20, 33, 7):
        found, expected = search(prompts(*lengths), width), exact.search(prompts(*lengths), width)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)
        assert (found.codes == expected.codes).all(-1).mean() > 0.95  # near-equal scores may change places


def test_neither_capture_nor_replay_makes_the_host_wait() -> None:
    made = generator("cuda")
    search = StaticSearch(made)
    with torch.inference_mode():
        prefix = made.prefix(prompts(5, 9))
        search.captured(prefix, 20)
        torch.cuda.set_sync_debug_mode("error")
        try:
            search.captured(prefix, 20)
            search.captured(prefix, 11)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_compiled_layers_find_the_same() -> None:
    found = StaticSearch(generator("cuda"), compiled=True)(prompts(4, 9), 20)
    assert_alike_closely(found.scores, generator("cpu").search(prompts(4, 9), 20).scores, 1e-3)


def test_float8_finds_nearly_the_same() -> None:
    if torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("this device does not multiply float8")
    found = StaticSearch(generator("cuda", torch.bfloat16), float8=True)(prompts(4, 9), 20)
    assert_alike_closely(found.scores, generator("cpu").search(prompts(4, 9), 20).scores, 1.0)


def test_more_shapes_than_are_kept_are_captured_again() -> None:
    exact, search = generator("cpu"), StaticSearch(generator("cuda"))
    for _ in range(2):
        for batch in (1, 2, 4, 8):
            for length in (1, 16, 32, 64):
                for width in (5, 15, 30, 60, 120):
                    asked = [TokenizedPrompt([1 + n % 40] * length) for n in range(batch)]
                    if width == 30:
                        assert_alike(search(asked, width), exact.search(asked, width))
                    else:
                        search(asked, width)


def assert_alike_closely(found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(found, expected, atol=tolerance)
