"""Two trained bundles, one a kind of generator, both of users, with every export that the engines are tested on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from genrecall import bundle
from genrecall.analyzer import Analyzer
from genrecall.bundle import Bundle
from genrecall.decoding.memory import Memory
from tests.generator.conftest import cache, encoder, train
from tests.generator.shop import TINY, Train, catalogue, requests
from trainer.export.attach import attach_onnx
from trainer.generator.memory import query_hashes

__all__ = ["cache", "encoder", "train"]

QUERIES = ["red shoe", "blue acme classic lamp for the home", "mug", "green zenith chair", "orbit 🧦 black shoe"]


GATES = {"new": 0.3, "familiar": 0.6, "user": 0.5}


def publish(kind: str, train: Train, folder: Path, layers: int = 1) -> Bundle:
    """A bundle of the shop whose generator was trained on texts, then on requests of users.

    Its gates stand open: evidence and decoder are mixed, by other shares for other queries. Two of QUERIES are
    remembered.
    """
    decoder = TINY.decoder.model_copy(update={"layers": layers})
    section = TINY.model_copy(update={"kind": kind, "decoder": decoder})
    train(folder, section, requests=(requests(200), requests(40, 1)))
    set_gates(folder / "generator", GATES)
    wants = query_hashes(Analyzer("english"), [*QUERIES[:1] * 3, QUERIES[2]])
    Memory.of(wants, np.array([40, 3, 5, 17]), np.array([2.0, 1.0, 1.0, 1.0])).save(folder / "generator")
    items, codes, space = catalogue()
    contents = bundle.Contents(items["item_id"].to_pylist(), codes, space.level_sizes, kind)
    return bundle.publish(
        folder / "bundles", "v1", contents, lambda target: (folder / "generator").rename(target / "generator") and None
    )


def set_gates(folder: Path, gates: dict[str, float]) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["genrecall"]["evidence"]["gates"] = gates
    path.write_text(json.dumps(config))


@pytest.fixture(scope="session")
def lm_bundle(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    made = publish("lm", train, tmp_path_factory.mktemp("lm-bundle"), layers=2)
    for precision in ("float32", "float16", "int8"):
        attach_onnx(made, precision, QUERIES)
    return made


@pytest.fixture(scope="session")
def encoder_bundle(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    made = publish("encoder", train, tmp_path_factory.mktemp("encoder-bundle"))
    attach_onnx(made, "float32", QUERIES)
    return made


@pytest.fixture(scope="session", params=["lm", "encoder"])
def exported(request: pytest.FixtureRequest) -> Bundle:
    made: Bundle = request.getfixturevalue(f"{request.param}_bundle")
    return made
