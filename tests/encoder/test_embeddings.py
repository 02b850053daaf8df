"""The embedding cache: a text is encoded once, a hit needs no torch, an interruption loses no finished chunk."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from genrecall import embeddings
from genrecall.config.encoder import EncoderSection
from genrecall.decoding.text_encoder import TextEncoder
from genrecall.embeddings import embed
from genrecall.errors import UserError

SECTION = EncoderSection()
TEXTS = ["red shoes", "blue lamp", "red shoes", "", "🧦 socks", "green tea"]


def test_vectors_follow_the_order_of_the_texts_repeats_included(tmp_path: Path) -> None:
    vectors = embed(TEXTS, "query", SECTION, tmp_path, progress=False)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors[0], vectors[2])
    np.testing.assert_allclose(vectors, TextEncoder.load("minilm").encode(TEXTS).numpy(), atol=2e-6)


def test_a_cache_hit_is_identical_and_loads_no_torch(tmp_path: Path) -> None:
    vectors = embed(TEXTS, "query", SECTION, tmp_path, progress=False)
    np.save(tmp_path / "first.npy", vectors)
    code = f"""
import sys, numpy as np
from pathlib import Path
from genrecall.config.encoder import EncoderSection
from genrecall.embeddings import embed
vectors = embed({TEXTS!r}[::-1], "query", EncoderSection(), Path({str(tmp_path)!r}))
assert (vectors[::-1] == np.load({str(tmp_path / "first.npy")!r})).all()
assert not {{"torch", "transformers"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_only_texts_not_seen_before_are_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embed(TEXTS, "query", SECTION, tmp_path, progress=False)
    encoded: list[str] = []
    original = TextEncoder.encode
    monkeypatch.setattr(TextEncoder, "encode", lambda self, t, n: (encoded.extend(t), original(self, t, n))[1])
    embed([*TEXTS, "new hat"], "query", SECTION, tmp_path, progress=False)
    assert encoded == ["new hat"]


def test_an_interrupted_run_continues_after_the_last_finished_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "CHUNK", 2)
    texts = [f"product number {i}" for i in range(6)]
    calls: list[list[str]] = []
    original = TextEncoder.encode

    def encode(self: TextEncoder, batch: list[str], batch_tokens: int) -> object:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(batch)
        return original(self, batch, batch_tokens)

    monkeypatch.setattr(TextEncoder, "encode", encode)
    with pytest.raises(KeyboardInterrupt):
        embed(texts, "query", SECTION, tmp_path, progress=False)
    calls.clear()
    vectors = embed(texts, "query", SECTION, tmp_path, progress=False)
    assert calls == [texts[4:]]
    np.testing.assert_allclose(vectors, original(TextEncoder.load("minilm"), texts).numpy(), atol=2e-6)
    assert not list(tmp_path.rglob("*.tmp"))


def test_another_setting_of_the_encoder_has_a_cache_of_its_own(tmp_path: Path) -> None:
    long = ["one two three four five six seven eight nine ten eleven twelve"]
    assert not np.array_equal(
        embed(long, "query", EncoderSection(max_tokens=8), tmp_path, progress=False),
        embed(long, "query", SECTION, tmp_path, progress=False),
    )
    assert len(list((tmp_path / "embeddings").iterdir())) == 2


def test_a_damaged_cache_file_is_named(tmp_path: Path) -> None:
    embed(TEXTS, "query", SECTION, tmp_path, progress=False)
    path = next(tmp_path.rglob("*.parquet"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=f"{path.name} is damaged.*delete it"):
        embed(TEXTS, "query", SECTION, tmp_path, progress=False)


def test_no_text_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no text"):
        embed([], "query", SECTION, tmp_path, progress=False)
