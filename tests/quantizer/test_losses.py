"""The query-item contrast against its definition."""

import math

import torch

from trainer.quantizer.losses import info_nce


def reference(items: torch.Tensor, queries: torch.Tensor, ids: list[int], temperature: float) -> float:
    """InfoNCE both ways, summed term by term."""
    n = len(items)
    cosine = [
        [float(torch.cosine_similarity(items[i], queries[j], dim=0)) / temperature for j in range(n)] for i in range(n)
    ]
    total = 0.0
    for i in range(n):
        others = [j for j in range(n) if j == i or ids[j] != ids[i]]
        total -= cosine[i][i] - math.log(sum(math.exp(cosine[i][j]) for j in others))
        total -= cosine[i][i] - math.log(sum(math.exp(cosine[j][i]) for j in others))
    return total / (2 * n)


def test_agrees_with_the_definition_both_ways() -> None:
    rng = torch.Generator().manual_seed(0)
    items, queries = torch.randn(6, 5, generator=rng), torch.randn(6, 5, generator=rng)
    for ids in ([0, 1, 2, 3, 4, 5], [0, 0, 1, 2, 2, 2]):
        loss = info_nce(items, queries, torch.tensor(ids), temperature=0.1)
        assert math.isclose(loss.item(), reference(items, queries, ids, 0.1), rel_tol=1e-5)


def test_rows_of_one_query_are_no_negatives_of_each_other() -> None:
    items = torch.eye(3)
    loss = info_nce(items, torch.ones(3, 3), torch.zeros(3, dtype=torch.long), temperature=0.1)
    assert loss.item() == 0.0


def test_a_batch_without_queries_adds_nothing() -> None:
    empty = torch.empty(0, 4, requires_grad=True)
    assert info_nce(empty, empty, torch.empty(0, dtype=torch.long), 0.1).item() == 0.0


def test_the_loss_pulls_an_item_to_its_query() -> None:
    items = torch.tensor([[1.0, 0.2], [0.2, 1.0]], requires_grad=True)
    queries = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    info_nce(items, queries, torch.tensor([0, 1]), 0.1).backward()
    assert items.grad is not None
    moved = (items - 0.01 * items.grad).detach()
    before = torch.cosine_similarity(items.detach(), queries)
    assert (torch.cosine_similarity(moved, queries) > before).all()
