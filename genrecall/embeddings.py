"""Texts -> unit vectors through a cache on disk, so that a text is encoded once for an encoder.

Owns the cache: `CACHE/embeddings/FINGERPRINT/*.parquet` of (sha256 of the text, vector). The fingerprint covers the
encoder's weights, tokenizer and settings. A chunk is written as soon as it is encoded, so an interrupted run loses one
chunk at most.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genrecall import files
from genrecall.checkpoints import fingerprint, resolve
from genrecall.config.encoder import EncoderSection
from genrecall.encoder_layout import read_prefixes
from genrecall.errors import UserError

if TYPE_CHECKING:
    import torch

    from genrecall.decoding.text_encoder import TextEncoder

CHUNK = 2048  # texts encoded between two writes


def embed(
    texts: Sequence[str],
    kind: Literal["query", "item"],
    section: EncoderSection,
    cache_dir: Path,
    progress: bool = True,
    device: str = "auto",
) -> np.ndarray:
    """float32 [n, dim], unit norm, in the order of `texts`. Loads torch only when a text is not in the cache.

    kind: which of the encoder's prefixes is written before each text.
    device: as `run.device`; the cache does not tell vectors of one from those of another, which differ by rounding.
    Raises UserError for a checkpoint that cannot be read or a damaged cache file.
    """
    if not texts:
        raise UserError("there is no text to embed: the catalogue or the query list is empty")
    checkpoint = resolve(section.checkpoint)
    folder = cache_dir / "embeddings" / fingerprint(checkpoint, section.max_tokens, section.dtype)
    given = section.query_prefix if kind == "query" else section.item_prefix
    prefix = getattr(read_prefixes(checkpoint), kind) if given is None else given
    texts = [prefix + text for text in texts]
    keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
    text_of = dict(zip(keys, texts, strict=True))
    known = _read(folder, text_of)
    missing = [key for key in text_of if key not in known]
    if missing:
        for chunk, vectors in _encode(missing, text_of, section, progress, device):
            _write(folder, chunk, vectors)
            known.update(zip(chunk, vectors, strict=True))
    return np.stack([known[key] for key in keys])


def load_encoder(section: EncoderSection, device: str | torch.device = "cpu") -> TextEncoder:
    """The encoder whose vectors `embed` returns, in its precision. Raises UserError for what cannot be read."""
    import torch

    from genrecall.decoding.text_encoder import TextEncoder

    dtype = getattr(torch, section.dtype)
    prefixes = section.query_prefix, section.item_prefix
    return TextEncoder.load(section.checkpoint, section.max_tokens, device, dtype, *prefixes)


def _encode(
    keys: Sequence[bytes], texts: dict[bytes, str], section: EncoderSection, progress: bool, device: str
) -> Iterator[tuple[list[bytes], np.ndarray]]:
    """Encode the texts of `keys`, `CHUNK` at a time."""
    from genrecall.devices import find_device
    from genrecall.progress import Bars

    encoder = load_encoder(section, find_device(device, "run.device"))
    with Bars(progress) as bar:
        task = bar.add_task(f"embedding {len(keys):,} texts", total=len(keys))
        for start in range(0, len(keys), CHUNK):
            chunk = list(keys[start : start + CHUNK])
            yield chunk, encoder.encode([texts[key] for key in chunk], section.batch_tokens).cpu().numpy()
            bar.advance(task, len(chunk))


def _read(folder: Path, keys: Container[bytes]) -> dict[bytes, np.ndarray]:
    """The cached vectors of `keys`."""
    vectors_of: dict[bytes, np.ndarray] = {}
    for path in sorted(folder.glob("*.parquet")):
        try:
            table = pq.read_table(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(
                f"cache file {path} is damaged ({error}): delete it, and its texts are encoded again"
            ) from None
        vectors = table["vector"].combine_chunks()
        rows = vectors.values.to_numpy().reshape(len(table), -1)
        vectors_of.update((k, rows[i]) for i, k in enumerate(table["key"].to_pylist()) if k in keys)
    return vectors_of


def _write(folder: Path, keys: Sequence[bytes], vectors: np.ndarray) -> None:
    """One file a chunk, named by its content."""
    flat = pa.array(vectors.reshape(-1), type=pa.float32())
    table = pa.table(
        {
            "key": pa.array(keys, type=pa.binary(32)),
            "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
        }
    )
    with files.replacing(folder / f"{files.sha256_of(keys)[:24]}.parquet") as partial:
        pq.write_table(table, partial)
