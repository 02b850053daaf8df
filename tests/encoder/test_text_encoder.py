"""The sentence encoder: the same vectors whatever the batch, the pooling, the dtype or the trip to disk."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genrecall.checkpoints import fingerprint, resolve
from genrecall.decoding.text_encoder import TextEncoder, batches, pool
from genrecall.errors import UserError

TEXTS = [
    "red running shoes",
    "",
    "Stainless steel kitchen knife set with wooden block, 15 pieces",
    "حذاء رياضي",
    "🧦 wool socks",
    "lamp " * 200,
]


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder.load("minilm")


def test_vectors_are_unit_float32_in_input_order(encoder: TextEncoder) -> None:
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), encoder.dim)
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(TEXTS)))
    assert vectors[0] @ encoder.encode(["jogging sneakers"])[0] > vectors[2] @ encoder.encode(["jogging sneakers"])[0]


@pytest.mark.parametrize("batch_tokens", [1, 100, 8192])
def test_a_text_has_the_same_vector_in_any_batch(encoder: TextEncoder, batch_tokens: int) -> None:
    alone = torch.cat([encoder.encode([text]) for text in TEXTS])
    torch.testing.assert_close(encoder.encode(TEXTS, batch_tokens), alone, atol=2e-6, rtol=0)


def test_agrees_with_sentence_transformers(encoder: TextEncoder) -> None:
    library = pytest.importorskip("sentence_transformers")
    reference = library.SentenceTransformer(str(resolve("minilm")), device="cpu")
    reference.max_seq_length = encoder.max_tokens
    torch.testing.assert_close(encoder.encode(TEXTS), torch.tensor(reference.encode(TEXTS)), atol=1e-5, rtol=0)


def test_nothing_is_printed_on_the_way(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    loaded = TextEncoder.load("minilm")
    loaded.encode(TEXTS)
    loaded.save(tmp_path)
    assert capfd.readouterr() == ("", "")


def test_no_text_gives_no_vector(encoder: TextEncoder) -> None:
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_bfloat16_keeps_the_direction(encoder: TextEncoder) -> None:
    cosine = (TextEncoder.load("minilm", dtype=torch.bfloat16).encode(TEXTS) * encoder.encode(TEXTS)).sum(1)
    assert cosine.min() > 0.999


def test_a_saved_encoder_loads_to_the_same_vectors(encoder: TextEncoder, tmp_path: Path) -> None:
    encoder.save(tmp_path / "full")
    torch.testing.assert_close(TextEncoder.load(tmp_path / "full").encode(TEXTS), encoder.encode(TEXTS))
    encoder.save(tmp_path / "half", dtype=torch.bfloat16)
    cosine = (TextEncoder.load(tmp_path / "half").encode(TEXTS) * encoder.encode(TEXTS)).sum(1)
    assert cosine.min() > 0.999
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.55 * sizes[0]


def test_first_token_pooling_is_read_from_the_checkpoint_and_kept(encoder: TextEncoder, tmp_path: Path) -> None:
    encoder.save(tmp_path)
    (tmp_path / "1_Pooling/config.json").write_text(
        '{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}'
    )
    first = TextEncoder.load(tmp_path)
    assert first.pooling == "cls"
    assert not torch.allclose(first.encode(TEXTS[:1]), encoder.encode(TEXTS[:1]), atol=1e-2)
    first.save(tmp_path / "again")
    assert TextEncoder.load(tmp_path / "again").pooling == "cls"
    (tmp_path / "1_Pooling/config.json").write_text('{"pooling_mode": "max"}')
    with pytest.raises(UserError, match="max"):
        TextEncoder.load(tmp_path)


def test_mean_pooling_leaves_padding_out() -> None:
    states = torch.tensor([[[1.0, 3.0], [3.0, 5.0], [100.0, 100.0]]])
    assert pool(states, torch.tensor([[1, 1, 0]]), "mean").tolist() == [[2.0, 4.0]]


@given(st.lists(st.integers(1, 64), max_size=60), st.integers(1, 300))
def test_batches_cover_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    runs = list(batches(lengths, budget))
    assert sorted(row for run in runs for row in run) == list(range(len(lengths)))
    assert all(len(run) == 1 or max(lengths[r] for r in run) * len(run) <= budget for run in runs)


def test_errors_name_the_checkpoint_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json"):
        TextEncoder.load(tmp_path)
    with pytest.raises(UserError, match=r"'no such/model'.*use 'minilm'"):
        resolve("no such/model")
    with pytest.raises(UserError, match=r"max_tokens is 4096, but .* reads 256 at most: set it to 256"):
        TextEncoder.load("minilm", max_tokens=4096)


def test_fingerprint_changes_with_content_and_settings(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    first = fingerprint(tmp_path, 64)
    assert first == fingerprint(tmp_path, 64) != fingerprint(tmp_path, 128)
    (tmp_path / "config.json").write_text('{"a": 1}')
    assert fingerprint(tmp_path, 64) != first


def test_encoding_leaves_no_gradient_and_trains_downstream(encoder: TextEncoder) -> None:
    vectors = encoder.encode(TEXTS[:2])
    assert not vectors.requires_grad
    weight = torch.ones(encoder.dim, requires_grad=True)
    (vectors @ weight).sum().backward()
    assert weight.grad is not None
    assert np.isfinite(weight.grad.numpy()).all()
