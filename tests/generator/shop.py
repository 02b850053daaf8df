"""A shop of a few dozen items whose codes mean something, and a sentence encoder of a few thousand random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from transformers import BertConfig, BertModel

from benchmarks.gpu.parts.shop import SPECIAL, save_word_tokenizer
from genrecall.config.encoder import EncoderSection
from genrecall.config.generator import (
    AlignmentSection,
    DecoderSection,
    DevSection,
    EncoderKindSection,
    GeneratorSection,
    LmKindSection,
    SamplingSection,
    StageSection,
    UserSection,
)
from genrecall.embeddings import embed
from genrecall.item_text import item_text
from genrecall.records import ITEMS, JUDGMENTS, QUERIES, REQUESTS
from genrecall.sid import SidSpace
from trainer.generator import TrainingData

Train = Callable[..., dict[str, Any]]  # the fixture `train`

TINY = GeneratorSection(
    decoder=DecoderSection(hidden=32, intermediate=48, heads=2, kv_heads=1),
    sampling=SamplingSection(synthetic_per_item=1),
    encoder=EncoderKindSection(stage=StageSection(steps=60, batch=32, lr=5e-3, warmup_steps=5, evaluate_every=20)),
    lm=LmKindSection(
        bpe_size=400,
        item_stage=StageSection(steps=20, batch=16, lr=5e-3, warmup_steps=5, evaluate_every=10),
        query_stage=StageSection(steps=40, batch=16, lr=5e-3, warmup_steps=5, evaluate_every=10),
    ),
    user=UserSection(stage=StageSection(steps=20, batch=32, lr=5e-3, warmup_steps=5, evaluate_every=10)),
    alignment=AlignmentSection(batch=8, warmup_steps=2, evaluate_every=5),
    dev=DevSection(beam_width=10, items=10),
)
"""A generator small enough for tests: seconds, and the same code."""

COLOURS = ["red", "blue", "green", "black"]
THINGS = ["shoe", "lamp", "chair", "mug"]
MAKERS = ["acme", "zenith", "orbit"]


def catalogue() -> tuple[pa.Table, np.ndarray, SidSpace]:
    """48 items; codes int32 [48, 3]: thing, colour, maker."""
    rows, codes = [], []
    for t, thing in enumerate(THINGS):
        for c, colour in enumerate(COLOURS):
            for m, maker in enumerate(MAKERS):
                rows.append(
                    {
                        "item_id": f"{t}{c}{m}",
                        "title": f"{maker} {colour} {thing} classic",
                        "category": ["home", thing],
                        "brand": maker,
                        "text": "",
                    }
                )
                codes.append([t, c, m])
    found = np.array(codes, dtype=np.int32)
    return pa.Table.from_pylist(rows, ITEMS), found, SidSpace.of(found)


def logs() -> tuple[pa.Table, pa.Table, pa.Table]:
    """QUERIES, and JUDGMENTS to learn from and to hold out: "red shoe" wants the three red shoes, another a little."""
    queries, train, dev = [], [], []
    for t, thing in enumerate(THINGS):
        for c, colour in enumerate(COLOURS):
            query = f"q{t}{c}"
            queries.append({"query_id": query, "text": f"{colour} {thing}"})
            into = dev if (t + c) % 4 == 0 else train
            into += [{"query_id": query, "item_id": f"{t}{c}{m}", "grade": 1.0} for m in range(len(MAKERS))]
            into.append({"query_id": query, "item_id": f"{t}{(c + 1) % 4}0", "grade": 0.1})
            into.append({"query_id": query, "item_id": f"{(t + 1) % 4}{c}0", "grade": 0.0})
    tables = (pa.Table.from_pylist(queries, QUERIES), *(pa.Table.from_pylist(j, JUDGMENTS) for j in (train, dev)))
    return tables


def shop_data(
    encoder: EncoderSection, cache: Path, of_users: tuple[pa.Table, pa.Table] | None = None, **changes: Any
) -> TrainingData:
    """What a generator of the shop learns from; `changes` replace fields."""
    items, codes, space = catalogue()
    queries, train, dev = logs()
    vectors = embed(item_text(items), "item", encoder, cache, progress=False)
    return replace(TrainingData(space, codes, items, vectors, queries, train, dev, of_users), **changes)


def requests(count: int, seed: int = 0) -> pa.Table:
    """REQUESTS of clients who each buy of one maker alone: their past says which."""
    rng = np.random.default_rng(seed)
    rows = []
    for n in range(count):
        maker, (thing, colour) = rng.integers(len(MAKERS)), rng.integers(4, size=2)
        past = [f"{t}{c}{maker}" for t, c in rng.integers(4, size=(3, 2))]
        wanted = f"{thing}{colour}{maker}"
        rows.append(
            {
                "query_id": f"r{n}",
                "text": f"{COLOURS[colour]} {THINGS[thing]}",
                "client_id": f"c{n}",
                "timestamp": 1_700_000_000_000 + n * 60_000,
                "gender": "",
                "age_band": "",
                "recent": list(dict.fromkeys(past)),
                "exposed": [f"{thing}{colour}{m}" for m in range(len(MAKERS))] + ["gone"],
                "clicked": [wanted],
                "purchased": [wanted] if n % 2 else [],
            }
        )
    return pa.Table.from_pylist(rows, REQUESTS)


def tiny_encoder(folder: Path) -> Path:
    """A random BERT of width 16 over the words of the shop, in Hugging Face layout."""
    words = [*SPECIAL, ".", "home", "classic", *COLOURS, *THINGS, *MAKERS]
    save_word_tokenizer(folder, words)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    BertModel(config).eval().save_pretrained(folder)
    return folder
