"""The moving averages of a codebook, by hand."""

import torch

from trainer.quantizer.codebook import Codebook


def test_update_moves_codes_as_computed_by_hand() -> None:
    book = Codebook.of(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([2.0, 4.0]))
    x = torch.tensor([[3.0, 0.0], [5.0, 2.0], [9.0, 9.0]])
    book.update(x, torch.tensor([0, 0, 1]), decay=0.9)
    # code 0: count .9 * 2 + .1 * 2 = 2, average .9 * (2, 0) + .1 * (8, 2) = (2.6, .2); code 1: count 3.7, (.9, 4.5)
    torch.testing.assert_close(book.count, torch.tensor([2.0, 3.7]))
    torch.testing.assert_close(book.average, torch.tensor([[2.6, 0.2], [0.9, 4.5]]))
    torch.testing.assert_close(book.embedding, torch.tensor([[1.3, 0.1], [0.9 / 3.7, 4.5 / 3.7]]))


def test_a_code_without_rows_stays_where_it_is_however_long() -> None:
    book = Codebook.of(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([1.0, 1.0]))
    x = torch.tensor([[2.0, 0.0]])
    for _ in range(11_000):  # long enough for its count to underflow
        book.update(x, torch.tensor([0]), decay=0.99)
    torch.testing.assert_close(book.embedding, torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
    book.update(x, torch.tensor([1]), decay=0.99)
    torch.testing.assert_close(book.embedding[1], x[0])


def test_restart_sets_embedding_average_and_count_of_unused_codes_together() -> None:
    x = torch.tensor([[7.0, 7.0]] * 8)
    book = Codebook.of(torch.eye(2).repeat(2, 1), torch.tensor([2.0, 0.01, 2.0, 0.05]))
    before = book.embedding.clone()
    moved = book.restart(
        x, below=0.05, rng=torch.Generator().manual_seed(0)
    )  # an even use is 8 / 4 = 2: the limit is .1
    assert moved == 2
    torch.testing.assert_close(book.embedding[[1, 3]], x[:2])
    torch.testing.assert_close(book.count, torch.tensor([2.0, 2.0, 2.0, 2.0]))
    torch.testing.assert_close(book.average[[1, 3]], x[:2] * 2)
    torch.testing.assert_close(book.embedding[[0, 2]], before[[0, 2]])


def test_restart_never_moves_the_code_of_a_category() -> None:
    kept = torch.tensor([True, False])
    book = Codebook.of(torch.eye(2), torch.zeros(2), kept)
    assert book.restart(torch.full((4, 2), 5.0), below=0.5, rng=torch.Generator()) == 1
    torch.testing.assert_close(book.embedding, torch.tensor([[1.0, 0.0], [5.0, 5.0]]))


def test_restart_can_be_switched_off() -> None:
    book = Codebook.of(torch.eye(2), torch.zeros(2))
    assert book.restart(torch.ones(4, 2), below=0.0, rng=torch.Generator()) == 0


def test_nearest_agrees_with_all_distances() -> None:
    rng = torch.Generator().manual_seed(1)
    x, codes = torch.randn(50, 6, generator=rng), torch.randn(9, 6, generator=rng)
    expected = torch.cdist(x, codes).argmin(1)
    assert torch.equal(Codebook.of(codes, torch.ones(9)).nearest(x), expected)
