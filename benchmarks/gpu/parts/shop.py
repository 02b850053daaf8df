"""A generated shop with judgments, a random sentence encoder, and users made up from the judgments: what the parts that
train learn from. Every figure drawn from it is simulated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from genrecall.config.data import DataSection
from genrecall.config.encoder import EncoderSection
from genrecall.config.generator import GeneratorSection
from genrecall.config.quantizer import QuantizerSection
from genrecall.data.readers import read_dataset
from genrecall.data.splits import read_split
from genrecall.embeddings import embed
from genrecall.item_text import item_text
from genrecall.records import REQUESTS, Dataset, Split
from simulation import synthesize
from simulation.config import ShopSection
from trainer.generator import TrainingData, TrainingSettings
from trainer.quantizer import Fitted, fit

SEED = 13


@dataclass(frozen=True)
class GeneratedShop:
    """In `folder`: the dataset, the encoder's checkpoint, the cache of vectors."""

    folder: Path
    items: int
    queries: int
    encoder: EncoderSection

    @classmethod
    def make(cls, folder: Path, items: int, queries: int, small: bool) -> GeneratedShop:
        synthesize(ShopSection(items=items, queries=queries, sessions=1), folder / "shop")
        made = cls(folder, items, queries, EncoderSection(checkpoint=str(folder / "encoder")))
        random_encoder(folder / "encoder", made.dataset.items["title"].to_pylist(), small)
        return made

    @cached_property
    def dataset(self) -> Dataset:
        return read_dataset(DataSection(folder=self.folder / "shop"))

    @cached_property
    def split(self) -> Split:
        return read_split(self.dataset, self.folder / "shop" / "splits.json")

    @cached_property
    def vectors(self) -> np.ndarray:
        """Random weights say nothing of meaning, but words in common bring vectors close: enough to learn from."""
        return embed(item_text(self.dataset.items), "item", self.encoder, self.folder / "cache", progress=False)

    @cached_property
    def fitted(self) -> Fitted:
        categories = self.dataset.items["category"].to_pylist()
        return fit("hierarchical", self.vectors, categories, None, QuantizerSection(), SEED, progress=False)

    def training_data(self, users: bool) -> TrainingData:
        data, split, fitted = self.dataset, self.split, self.fitted
        requests = (
            (made_up_requests(data, split.train, 4000), made_up_requests(data, split.dev, 200)) if users else None
        )
        of_items = (data.items, self.vectors, data.queries)
        return TrainingData(fitted.space, fitted.codes, *of_items, split.train, split.dev, requests)

    def settings(self, generator: GeneratorSection) -> TrainingSettings:
        return TrainingSettings(generator, self.encoder, SEED, self.folder / "cache", progress=False)


SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def save_word_tokenizer(folder: Path, vocabulary: list[str]) -> None:
    """A tokenizer of lower-cased words in Hugging Face layout. vocabulary: SPECIAL, then the words, none twice."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(folder)


def random_encoder(folder: Path, titles: list[str], small: bool) -> None:
    """A BERT of MiniLM's size (6 layers of 384), random weights, over the words of `titles`; in Hugging Face layout."""
    words = sorted({word for title in titles for word in title.lower().split()})[:30_000]
    vocabulary = list(dict.fromkeys([*SPECIAL, *words]))
    save_word_tokenizer(folder, vocabulary)
    torch.manual_seed(0)
    layers, hidden, heads = (1, 32, 2) if small else (6, 384, 12)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        max_position_embeddings=512,
    )
    BertModel(config).eval().save_pretrained(folder)


def made_up_requests(dataset: Dataset, judgments: pa.Table, count: int) -> pa.Table:
    """REQUESTS: for a judged query its best items were clicked, its others shown, and the past is of random items."""
    text_of = dict(zip(dataset.queries["query_id"].to_pylist(), dataset.queries["text"].to_pylist(), strict=True))
    items_of: dict[str, list[str]] = {}
    rows = sorted(judgments.to_pylist(), key=lambda row: -row["grade"])
    for row in rows:
        items_of.setdefault(row["query_id"], []).append(row["item_id"])
    rng, every = np.random.default_rng(SEED), dataset.items["item_id"].to_pylist()
    queries = sorted(items_of)
    made = []
    for n in range(count):
        query = queries[rng.integers(len(queries))]
        shown = items_of[query][:20]
        recent = [every[i] for i in rng.choice(len(every), 5, replace=False)]
        users = {"gender": "f" if n % 2 else "m", "age_band": "25-34"}
        stamp = {"client_id": f"c{n}", "timestamp": 1_700_000_000_000 + n * 60_000}
        outcome = {"exposed": shown, "clicked": shown[:2], "purchased": shown[: n % 2]}
        made.append({"query_id": f"r{n}", "text": text_of[query], **stamp, **users, "recent": recent, **outcome})
    return pa.Table.from_pylist(made, REQUESTS)
