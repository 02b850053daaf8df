"""Training end to end on the shop: what it reports, what it writes, what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genrecall.config.encoder import EncoderSection
from genrecall.config.generator import EvidenceSection
from genrecall.decoding import Generator
from genrecall.embeddings import embed
from genrecall.errors import UserError
from genrecall.sid import SidSpace
from tests.generator.shop import TINY, Train, catalogue, logs

Trained = tuple[Path, dict[str, Any]]


def test_encoder_kind_learns_the_shop(trained_encoder: Trained) -> None:
    _, metrics = trained_encoder
    looks = [look["eval_recall"] for look in metrics["stages"]["mixed"]["evaluations"]]
    assert metrics["queries"] == "real"
    assert metrics["prior"]
    assert len(looks) == 3
    assert max(looks) > 0.5  # 10 of 48 items: chance is about .2


def test_lm_kind_learns_the_shop_in_two_stages(trained_lm: Trained) -> None:
    _, metrics = trained_lm
    assert list(metrics["stages"]) == ["item", "query"]
    assert metrics["stages"]["query"]["evaluations"][-1]["eval_recall"] > 0.5


def test_a_trained_generator_gives_the_probability_that_training_gave(
    trained_encoder: Trained, encoder: EncoderSection, cache: Path
) -> None:
    """All 48 SIDs of a query: probabilities sum to one, and equal those of Hugging Face's modules, teacher-forced."""
    from genrecall.decoding.config import read_folder
    from genrecall.decoding.dense_prior import DensePrior
    from genrecall.decoding.tables import ConstraintTables
    from trainer.generator.encoder_model import EncoderModel, decoder_config

    folder, _ = trained_encoder
    space = catalogue()[2]
    config, weights = read_folder(folder)
    nodes = [len(weights[f"prior.vectors_{level}"]) for level in range(3)]
    model = EncoderModel(
        decoder_config(TINY.decoder, config["vocab_size"], tied=False),
        16,
        space.level_sizes,
        ConstraintTables.build(space),
        DensePrior((nodes[0], nodes[1], nodes[2]), 16, TINY.decoder.hidden),
        dropout=0.0,
    ).eval()
    names = {"model.": "backbone.", "lm_head.": "heads.", "prior.": "heads.prior."}
    state = {}
    for key, value in weights.items():
        old = next((old for old in names if key.startswith(old)), "")
        state[names.get(old, "") + key.removeprefix(old)] = value.float()
    model.load_state_dict(state)

    generator = Generator.load(folder, space)
    generator.evidence = None  # the decoder alone
    answer = generator.generate(["red shoe"], k=48)
    assert np.exp(answer.scores).sum() == pytest.approx(1.0, abs=1e-4)
    text = torch.from_numpy(embed(["red shoe"], "query", encoder, cache, progress=False))
    with torch.no_grad():
        for codes, score in zip(answer.codes[0, :5], answer.scores[0, :5], strict=True):
            sid = torch.from_numpy(space.index_of(codes)).reshape(1, 1)
            assert -model(sid, text=text)["loss"].item() == pytest.approx(score, abs=1e-4)


def test_products_in_bfloat16_learn_nearly_the_same_and_leave_weights_in_float32(train: Train, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    losses = {}
    for precision in ("float32", "bfloat16"):
        lm = TINY.lm.model_copy(update={"precision": precision})
        metrics = train(tmp_path / precision, TINY.model_copy(update={"kind": "lm", "lm": lm}))
        losses[precision] = metrics["stages"]["query"]["loss"]
        weights = load_file(tmp_path / precision / "generator" / "model.safetensors")
        assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert losses["float32"] != losses["bfloat16"], "nothing was rounded"
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.1)


def test_a_shop_without_judgments_trains_on_synthetic_queries_and_says_so(train: Train, tmp_path: Path) -> None:
    none = logs()[1].slice(0, 0)
    stage = TINY.encoder.stage.model_copy(update={"steps": 3})
    section = TINY.model_copy(update={"encoder": TINY.encoder.model_copy(update={"stage": stage})})
    metrics = train(tmp_path, section, train=none, dev=none)
    assert metrics["queries"] == "synthetic"
    assert metrics["shares"] == {"title": 0.25, "synthetic": 0.75}
    assert metrics["stages"]["mixed"]["evaluations"] == []
    assert Generator.load(tmp_path / "generator", catalogue()[2]).generate(["mug"], k=3).valid.all()


def test_a_training_that_fails_leaves_what_was_there(train: Train, tmp_path: Path) -> None:
    out = tmp_path / "generator"
    out.mkdir()
    (out / "old").touch()
    section = TINY.model_copy(update={"kind": "lm", "lm": TINY.lm.model_copy(update={"checkpoint": str(tmp_path)})})
    with pytest.raises(UserError, match=r"config\.json"):
        train(tmp_path, section)
    assert [path.name for path in tmp_path.iterdir() if "generator" in path.name] == ["generator"]
    assert (out / "old").exists()


def test_tables_that_do_not_fit_are_refused(train: Train, tmp_path: Path) -> None:
    _, codes, _ = catalogue()
    with pytest.raises(UserError, match="48 items, but 47 codes"):
        train(tmp_path, codes=codes[:47])
    with pytest.raises(UserError, match="1 items have a SID outside the space"):
        train(tmp_path, codes=np.concatenate([codes[:47], [[9, 9, 9]]]).astype(np.int32))


def test_a_generator_without_prior_and_evidence_serves_any_list_of_sids(train: Train, tmp_path: Path) -> None:
    """Nothing in it belongs to the SIDs themselves, so a catalogue that lost items keeps its generator."""
    stage = TINY.encoder.stage.model_copy(update={"steps": 3})
    encoder = TINY.encoder.model_copy(update={"stage": stage, "prior": False})
    section = TINY.model_copy(update={"encoder": encoder, "evidence": EvidenceSection(enabled=False)})
    assert not train(tmp_path, section)["prior"]
    _, codes, space = catalogue()
    fewer = SidSpace.of(codes[::2], space.level_sizes)
    answer = Generator.load(tmp_path / "generator", fewer).generate(["red shoe"], k=30)
    assert answer.valid.sum() == len(fewer)
