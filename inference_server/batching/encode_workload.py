"""Items -> SIDs of a bundle, as in training: the same text, the same sentence encoder, the same quantizer.

Items are tokenized where the call is prepared and encoded on the compute thread, in batches of items only. The encoder
of a bundle is loaded at its first `Encode`, since most servers never see one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from tokenizers import Tokenizer

from genrecall.bundle import Bundle
from genrecall.config.encoder import EncoderSection
from genrecall.decoding.request_tokenizer import encoder_tokenizer
from genrecall.encoder_layout import read_prefixes
from genrecall.item_text import clean_text, embedded_text, parse_categories
from genrecall.rpc import generative_recall_pb2 as pb
from inference_server.batching.scheduler import WorkItem
from inference_server.bundles.loaded import BundleNotLoaded
from inference_server.engines import Engine

if TYPE_CHECKING:
    from genrecall.assignment import Assigner
    from genrecall.decoding.text_encoder import TextEncoder


class EncoderNotAvailable(BundleNotLoaded):
    """The bundle answers queries, but was published without what encodes items."""


class TokenizedItem(NamedTuple):
    """An item as the encoder (token ids) and the quantizer (category path) read it."""

    ids: list[int]
    category: list[str]


class ItemTokenizer:
    """Tokenizes items for one bundle, as training did."""

    def __init__(self, tokenizer: Tokenizer, prefix: str = "", keep_html: bool = False) -> None:
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._prefix, self._keep_html = prefix, keep_html

    @classmethod
    def open(cls, bundle: Bundle) -> ItemTokenizer:
        """Raises what `EncodeWorkload.load` raises."""
        section = _encoder_section(bundle)
        folder = Path(section.checkpoint)
        prefix = read_prefixes(folder).item
        return cls(encoder_tokenizer(folder, section.max_tokens), prefix, _keeps_html(bundle))

    def work_items(self, items: Sequence[pb.Item]) -> list[WorkItem]:
        """One per item, read as `genrecall.data.readers` reads a catalogue. May be called from any thread."""
        keep = self._keep_html
        categories = [parse_categories(list(item.category), "", keep) for item in items]
        texts = [
            self._prefix
            + embedded_text(
                clean_text(item.title, "title", None, keep), clean_text(item.brand, "brand", None, keep), category
            )
            for item, category in zip(items, categories, strict=True)
        ]
        encoded = self._tokenizer.encode_batch(texts)
        return [
            WorkItem(TokenizedItem(one.ids, category), len(one.ids))
            for one, category in zip(encoded, categories, strict=True)
        ]


class EncodeWorkload(ItemTokenizer):
    """Encodes items of one bundle. Payloads are `TokenizedItem`, results int32 [3]."""

    name = "encode"

    def __init__(self, tokenizer: Tokenizer, encoder: TextEncoder, assign: Assigner, keep_html: bool = False) -> None:
        super().__init__(tokenizer, encoder.prefixes.item, keep_html)
        self._encoder = encoder
        self._assign = assign

    @classmethod
    def load(cls, bundle: Bundle, device: str = "auto") -> EncodeWorkload:
        """Raises EncoderNotAvailable for a bundle published without its encoder, UserError for damaged files."""
        from genrecall.assignment import Assigner
        from genrecall.devices import find_device
        from genrecall.embeddings import load_encoder

        section = _encoder_section(bundle)
        where = find_device(device, "server.device")
        tokenizer = encoder_tokenizer(Path(section.checkpoint), section.max_tokens)
        assign = Assigner.load(bundle.quantizer_path)
        return cls(tokenizer, load_encoder(section, where), assign, _keeps_html(bundle))

    def run(self, payloads: list[TokenizedItem]) -> list[np.ndarray]:
        vectors = self._encoder.encode_tokens([tokens.ids for tokens in payloads]).cpu().numpy()
        return list(self._assign(vectors, [tokens.category for tokens in payloads]))


def _keeps_html(bundle: Bundle) -> bool:
    """Whether the catalogue was read with its tags and entities, as before there was a choice."""
    fields = bundle.manifest["config"].get("data", {}).get("items", {}).get("fields", {})
    return bool(fields.get("keep_html", "separator" in fields))


def _encoder_section(bundle: Bundle) -> EncoderSection:
    """The settings of the bundle's encoder, `checkpoint` its folder."""
    if bundle.encoder_dir is None:
        raise EncoderNotAvailable(
            f"codebook {bundle.codebook!r} cannot encode items: it was published without its sentence encoder; "
            "publish it again under a new name (`genrecall train -c CONFIG run.codebook=NAME`, which keeps the "
            "steps that are done)"
        )
    # Settings as in training, but the copy of the encoder inside the bundle: the original may be out of reach here.
    trained = {**bundle.manifest["config"]["encoder"], "checkpoint": str(bundle.encoder_dir)}
    return EncoderSection.model_validate(trained)


W = TypeVar("W")


class EncodeWorkloads(Generic[W]):
    """The `Encode` workload of each engine: loaded at first use, dropped with the engine."""

    def __init__(self, load: Callable[[Engine], W]) -> None:
        self._load = load
        self._loading: WeakKeyDictionary[Engine, asyncio.Task[W]] = WeakKeyDictionary()

    async def get(self, engine: Engine) -> W:
        """Loads on a thread, once for all waiting calls; a failure reaches them all, and the next call tries again."""
        if engine not in self._loading:
            self._loading[engine] = asyncio.create_task(asyncio.to_thread(self._load, engine))
        try:
            return await asyncio.shield(self._loading[engine])
        except Exception:
            self._loading.pop(engine, None)
            raise
