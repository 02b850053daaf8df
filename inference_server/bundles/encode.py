"""New and changed items -> SIDs of a bundle: the text that training embedded, the same encoder, the same descent.

Tokenizing happens wherever a call is prepared, the rest on the compute thread, where items share batches with no other
work. An encoder is loaded when the first item comes, since most servers never see one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from tokenizers import Tokenizer

from genrecall.assignment import Assigner
from genrecall.bundle import Bundle
from genrecall.config.encoder import EncoderSection
from genrecall.decoding.request_tokenizer import encoder_tokenizer
from genrecall.decoding.text_encoder import TextEncoder
from genrecall.embeddings import load_encoder
from genrecall.item_text import categories_of, embedded_text, text_of
from genrecall.rpc import generative_recall_pb2 as pb
from inference_server.batching.scheduler import Job
from inference_server.bundles.loaded import NotHeld
from inference_server.engines import Engine


class EncoderNotHeld(NotHeld):
    """The bundle answers queries, but cannot encode items."""


class Tokens(NamedTuple):
    """An item as the encoder and the quantizer read it."""

    ids: list[int]
    category: list[str]


class ItemReader:
    """Reads items for one bundle: tokenizes them as training did."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_padding()
        self._tokenizer = tokenizer

    @classmethod
    def open(cls, bundle: Bundle) -> ItemReader:
        """Raises what `EncodeLane.load` raises."""
        section = _encoder_section(bundle)
        return cls(encoder_tokenizer(Path(section.checkpoint), section.max_tokens))

    def jobs(self, items: Sequence[pb.Item]) -> list[Job]:
        """One an item, read as `genrecall.data.readers` reads a catalogue. May be called from any thread."""
        categories = [categories_of(list(item.category), separator="") for item in items]
        texts = [
            embedded_text(text_of(item.title, "title"), text_of(item.brand, "brand"), category)
            for item, category in zip(items, categories, strict=True)
        ]
        encoded = self._tokenizer.encode_batch(texts)
        return [Job(Tokens(one.ids, category), len(one.ids)) for one, category in zip(encoded, categories, strict=True)]


class EncodeLane(ItemReader):
    """Encodes items of one bundle. Payloads are `Tokens`, results int32 [3]; calls share batches."""

    name = "encode"

    def __init__(self, tokenizer: Tokenizer, encoder: TextEncoder, assign: Assigner) -> None:
        super().__init__(tokenizer)
        self._encoder = encoder
        self._assign = assign

    @classmethod
    def load(cls, bundle: Bundle, device: str = "auto") -> EncodeLane:
        """Raises EncoderNotHeld for a bundle of a version that kept no encoder, UserError for damaged files."""
        section = _encoder_section(bundle)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        tokenizer = encoder_tokenizer(Path(section.checkpoint), section.max_tokens)
        return cls(tokenizer, load_encoder(section, device), Assigner.load(bundle.quantizer_path))

    def run(self, payloads: list[Tokens]) -> list[np.ndarray]:
        vectors = self._encoder.encode_tokens([tokens.ids for tokens in payloads]).cpu().numpy()
        return list(self._assign(vectors, [tokens.category for tokens in payloads]))


def _encoder_section(bundle: Bundle) -> EncoderSection:
    """The settings of the bundle's encoder, `checkpoint` its folder."""
    if bundle.encoder_dir is None:
        raise EncoderNotHeld(
            f"codebook {bundle.codebook!r} cannot encode items: it was published without its sentence encoder; "
            "publish it again under a new name (`genrecall train -c CONFIG run.codebook=NAME`, which keeps the "
            "steps that are done)"
        )
    # the checkpoint of training may be out of reach here, its other settings hold
    trained = {**bundle.manifest["config"]["encoder"], "checkpoint": str(bundle.encoder_dir)}
    return EncoderSection.model_validate(trained)


L = TypeVar("L")


class EncodeLanes(Generic[L]):
    """The lane of each engine's bundle: loaded when first asked for, gone with the engine."""

    def __init__(self, load: Callable[[Engine], L]) -> None:
        self._load = load
        self._loading: WeakKeyDictionary[Engine, asyncio.Task[L]] = WeakKeyDictionary()

    async def of(self, engine: Engine) -> L:
        """Loads on a thread, once however many calls wait; a failure is told to those, and tried again by the next."""
        if engine not in self._loading:
            self._loading[engine] = asyncio.create_task(asyncio.to_thread(self._load, engine))
        try:
            return await asyncio.shield(self._loading[engine])
        except Exception:
            self._loading.pop(engine, None)
            raise
