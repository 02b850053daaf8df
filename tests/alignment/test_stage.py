"""The alignment stage on the small shop: what it learns, logs, refuses, and that an interruption changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genrecall.config.encoder import EncoderSection
from genrecall.config.generator import AlignmentSection, DevSection, GeneratorSection, StageSection, UserSection
from genrecall.decoding import Generator
from genrecall.decoding.user import User
from tests.generator.shop import TINY, catalogue, requests, shop_data, tiny_encoder
from trainer.alignment import stage as alignment
from trainer.generator import TrainingSettings, train_generator

ITEMS, CODES, SPACE = catalogue()
ALIGNMENT = AlignmentSection(steps=20, batch=16, evaluate_every=5, lr=1e-3, keep="last")
SECTION = TINY.model_copy(
    update={
        "user": UserSection(stage=StageSection(steps=150, batch=64, lr=5e-3, warmup_steps=5, evaluate_every=50)),
        "alignment": ALIGNMENT,
        "dev": DevSection(beam_width=10, items=2),
    }
)

pytestmark = pytest.mark.slow  # each test trains


class Shop:
    """Trains on the small shop in one folder, so that the stages before the last are trained once."""

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        self.folder = folder
        self.encoder = EncoderSection(checkpoint=str(tiny_encoder(folder / "encoder")), max_tokens=16)

    def train(self, section: GeneratorSection = SECTION, work: str = "work") -> dict[str, Any]:
        data = shop_data(self.encoder, self.folder / "cache", (requests(400), requests(60, 1)))
        settings = TrainingSettings(section, self.encoder, seed=3, cache_dir=self.folder / "cache", progress=False)
        return train_generator(data, settings, self.folder / "generator", self.folder / work)

    def load(self) -> Generator:
        return Generator.load(self.folder / "generator", SPACE)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Shop(tmp_path_factory.mktemp("shop"))
    torch.set_num_threads(threads)


def aligned(**changes: Any) -> GeneratorSection:
    return SECTION.model_copy(update={"alignment": ALIGNMENT.model_copy(update=changes)})


@pytest.mark.parametrize("kind", ["encoder", "lm"])
def test_a_users_past_decides_between_items_that_the_query_cannot_tell_apart(shop: Shop, kind: str) -> None:
    metrics = shop.train(SECTION.model_copy(update={"kind": kind}), kind)
    assert max(look["eval_recall"] for look in metrics["stages"]["user"]["evaluations"]) > 0.9, (
        "makers are known by the past"
    )
    generator = shop.load()
    of_maker = [User(recent=CODES[CODES[:, 2] == maker][:3]) for maker in range(3)]
    answer = generator.generate(["red shoe"] * 4, 3, users=[*of_maker, None])
    assert answer.codes[:3, 0, 2].tolist() == [0, 1, 2]
    assert answer.scores[3, 0] < answer.scores[:3, 0].min(), "of a stranger it is less sure"
    nobody = generator.generate(["red shoe"], 3)
    np.testing.assert_allclose(nobody.scores[0], answer.scores[3], atol=1e-5)
    assert (generator.generate(["red shoe"], 3, users=[User("x", "y")]).codes == nobody.codes).all()


def test_what_is_trained_is_what_is_served_for_users_too(shop: Shop) -> None:
    """Search scores of a user equal the model's own, teacher-forced behind the prefix that training makes."""
    shop.train(SECTION.model_copy(update={"kind": "lm"}), "lm")
    generator = shop.load()
    user = User(recent=CODES[[1, 4, 7, 9]])
    together = generator.generate(["red shoe", "a much longer query than the other"], 5, users=[user, None])
    alone = generator.generate(["red shoe"], 5, users=[user])
    np.testing.assert_allclose(together.scores[0], alone.scores[0], atol=1e-5)


def test_only_related_sids_are_read_where_the_section_says_so(shop: Shop) -> None:
    section = SECTION.model_copy(update={"user": SECTION.user.model_copy(update={"related": 1})})
    shop.train(section.model_copy(update={"alignment": AlignmentSection(steps=0)}))
    generator = shop.load()
    generator.evidence = None  # the decoder alone reads recent SIDs as tokens
    codes = [generator.generate(["red shoe"], 1, users=[User(recent=CODES[[row]])]).codes[0, 0] for row in (1, 2)]
    assert codes[0][0] == codes[1][0], "both asked for a shoe"
    other = CODES[CODES[:, 0] != codes[0][0]][:2]
    unrelated = generator.generate(["red shoe"], 5, users=[User(recent=other)])
    np.testing.assert_allclose(unrelated.scores, generator.generate(["red shoe"], 5).scores, atol=1e-5)


def test_rewards_rise_and_everything_is_logged(shop: Shop) -> None:
    history = shop.train(aligned(experts=2, kl_weight=0.05, steps=40))["stages"]["alignment"]["history"]
    reward = [entry["reward"] for entry in history]
    assert np.mean(reward[len(reward) // 2 :]) > np.mean(reward[: len(reward) // 2])
    names = {
        "reward",
        "group_reward",
        "zero_variance",
        "experts",
        "expert_wins",
        "distinct",
        "entropy",
        "kl",
        "clipped",
    }
    assert names <= set(history[0])
    shares = [history[0][f"share_{kind}"] for kind in ("purchased", "clicked", "exposed", "valid")]
    assert sum(shares) == pytest.approx(1, abs=1e-5)
    assert history[0]["experts"] == pytest.approx(2)


def test_plain_grpo_has_no_expert(shop: Shop) -> None:
    history = shop.train(aligned(experts=0))["stages"]["alignment"]["history"]
    for entry in history:
        assert entry["experts"] == entry["expert_wins"] == 0
        assert entry["reward"] == pytest.approx(entry["group_reward"])


def test_all_requests_and_another_temperature_can_be_chosen(shop: Shop) -> None:
    stage = shop.train(aligned(requests="all", temperature=1.3))["stages"]["alignment"]
    assert np.isfinite([entry["loss"] for entry in stage["history"]]).all()
    assert max(entry["clipped"] for entry in stage["history"]) == 0


def test_a_change_of_the_last_stage_leaves_the_others_in_place(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.train()
    done = {str(path): path.stat().st_mtime_ns for path in (shop.folder / "work").glob("*/stage.json")}
    shop.train(aligned(experts=1))
    again = {str(path): path.stat().st_mtime_ns for path in (shop.folder / "work").glob("*/stage.json")}
    assert done.items() <= again.items()


def test_an_interrupted_alignment_ends_where_it_would_have_ended(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    section = aligned()
    whole = shop.train(section, "whole")["stages"]["alignment"]
    expected = shop.load().generate(["red shoe"], 5)
    calls = iter(range(10**6))
    loss_of = alignment.AlignmentTrainer.loss_of

    def killed(self: Any, *args: Any) -> Any:
        if next(calls) == 13:
            raise KeyboardInterrupt
        return loss_of(self, *args)

    monkeypatch.setattr(alignment.AlignmentTrainer, "loss_of", killed)
    with pytest.raises(KeyboardInterrupt):
        shop.train(section, "cut")
    monkeypatch.undo()
    resumed = shop.train(section, "cut")["stages"]["alignment"]
    assert resumed["loss"] == pytest.approx(whole["loss"], rel=1e-4)
    assert [e["reward"] for e in resumed["history"]] == pytest.approx([e["reward"] for e in whole["history"]])
    np.testing.assert_allclose(shop.load().generate(["red shoe"], 5).scores, expected.scores, atol=1e-4)
