"""CQ-SID: category guide, ablations, level sizes, the reading of codes."""

import numpy as np
import pytest
import torch

from genrecall.config.quantizer import CqSidSection
from tests.quantizer.shop import Shop, section
from trainer.quantizer import fit
from trainer.quantizer.codebook import Codebook
from trainer.quantizer.cq_sid import auto_sizes, init_codebooks, quantize


def test_level_one_starts_at_the_category_means_and_keeps_those_codes(shop: Shop) -> None:
    guide = np.array([int(path[1][1]) if path else -1 for path in shop.categories])
    size = section().cq_sid.batch_size
    one, two, _ = init_codebooks(torch.from_numpy(shop.vectors), guide, 4, (6, 8, 8), size, seed=0)
    for code in range(4):
        np.testing.assert_allclose(one.embedding[code], shop.vectors[guide == code].mean(axis=0), atol=1e-6)
    assert one.kept.tolist() == [True] * 4 + [False] * 2
    assert not two.kept.any()
    torch.testing.assert_close(one.average, one.embedding * one.count[:, None])
    assert one.count.sum() == pytest.approx(section().cq_sid.batch_size, rel=1e-4)


def test_levels_two_and_three_are_laid_on_what_is_left(shop: Shop) -> None:
    z = torch.from_numpy(shop.vectors)
    free = np.full(600, -1)
    books = init_codebooks(z, free, 0, (12, 16, 16), section().cq_sid.batch_size, seed=0)
    left = [quantize(z, books[: level + 1], torch.from_numpy(free)).vector.sub(z).square().sum() for level in range(3)]
    assert left[0] > left[1] > left[2]


def test_codes_take_the_category_then_the_nearest_residual() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    books = [
        Codebook.of(rows, torch.ones(2)),
        Codebook.of(0.1 * rows, torch.ones(2)),
        Codebook.of(0 * rows, torch.ones(2)),
    ]
    z = torch.tensor([[1.1, 0.0], [1.1, 0.0]], requires_grad=True)
    quantized = quantize(z, books, torch.tensor([-1, 1]))
    assert [codes.tolist() for codes in quantized.codes] == [[0, 1], [0, 0], [0, 0]]
    torch.testing.assert_close(quantized.vector.detach(), torch.tensor([[1.1, 0.0], [0.1, 1.0]]))
    # row 0: .1^2 at level 1, then 0; row 1: 1.1^2 + 1 at level 1, 1^2 + 1 at levels 2 and 3 each
    assert quantized.commitment.item() == pytest.approx((0.01 + 2.21 + 2 + 2) / 2)
    quantized.vector.sum().backward()
    torch.testing.assert_close(z.grad, torch.ones(2, 2))  # straight through


@pytest.mark.parametrize(
    ("ablation", "guided", "queries"),
    [("none", True, 120), ("no_category", False, 120), ("no_contrast", True, 0), ("rq_vae", False, 0)],
)
def test_an_ablation_leaves_out_what_it_names(ablation: str, guided: bool, queries: int, shop: Shop) -> None:
    small = section(cq_sid={"ablation": ablation})
    result = fit("cq_sid", shop.vectors, shop.categories, shop.pairs, small, 0, progress=False)
    by_category = {
        path[1]: {int(c) for p, c in zip(shop.categories, result.codes[:, 0], strict=True) if p == path}
        for path in shop.categories
        if path
    }
    assert all(len(codes) == 1 for codes in by_category.values()) == guided
    assert result.report["fit"]["queries"] == queries
    last = result.report["fit"]["history"][-1]
    assert (last["contrast"] > 0) == (queries > 0)


def test_the_contrast_brings_items_and_their_queries_together(shop: Shop) -> None:
    def contrast(weight: float) -> float:
        small = section(cq_sid={"contrast_weight": weight, "epochs": 10})
        report = fit("cq_sid", shop.vectors, shop.categories, shop.pairs, small, 0, progress=False).report
        return report["fit"]["history"][-1]["contrast"]

    assert contrast(1.0) < 0.7 * contrast(0.0)


def test_training_lowers_reconstruction_and_without_pairs_there_is_no_contrast(shop: Shop) -> None:
    small = section(cq_sid={"epochs": 20})
    report = fit("cq_sid", shop.vectors, shop.categories, None, small, 0, progress=False).report["fit"]
    assert report["history"][-1]["reconstruction"] < 0.8 * report["history"][0]["reconstruction"]
    assert report["history"][-1]["contrast"] == 0


def test_level_sizes_follow_the_catalogue_or_the_configuration() -> None:
    assert auto_sizes(CqSidSection(level_sizes=(2048, 1024, 1024)), 10**6, 1711, 0) == (2048, 1024, 1024)
    size1, size2, size3 = auto_sizes(CqSidSection(), 10_000, categories=90, without=1_000)
    assert size1 == 100  # 90 categories of 100 items, and codes for 1,000 items without one
    assert size2 == size3
    assert auto_sizes(CqSidSection(), 4096, categories=0, without=4096)[0] == 32
    assert auto_sizes(CqSidSection(), 1, categories=0, without=1)[0] == 1


def test_unused_codes_restart_while_training(shop: Shop) -> None:
    def restarted(below: float) -> float:
        small = section(
            cq_sid={"level_sizes": (64, 64, 64), "restart_below": below, "ablation": "rq_vae", "epochs": 30}
        )
        history = fit("cq_sid", shop.vectors, shop.categories, None, small, 0, progress=False).report["fit"]["history"]
        return sum(epoch["restarted"] for epoch in history)

    assert restarted(0.3) > 0
    assert restarted(0.0) == 0
