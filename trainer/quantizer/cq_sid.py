"""CQ-SID: a residual-quantized autoencoder guided by category and query (paper, section 3.1).

    item vector -> encoder -> z; level 1 takes the category's code, levels 2 and 3 the code nearest to the residual;
    the sum of the three codes -> decoder -> item vector

    loss = reconstruction + commitment_weight * commitment + contrast_weight * InfoNCE(z of items, z of their queries)

Where the paper is silent, or a small shop differs:
1. Item and query vectors are those of one sentence encoder, and pass the same two-layer encoder here.
2. The contrast reads z, before it is quantized. A batch holds one query several times: see `info_nce`.
3. The codebooks are initialized after `warmup_epochs` as a plain autoencoder: level 1 at the category means, its free
   codes by k-means of the items without category, levels 2 and 3 by k-means of the residuals.
4. An item with several queries shows one of them a pass, drawn by weight.
5. Level sizes follow the catalogue (`auto_sizes`), and a category of few items joins its parent (`category_table`).
6. After training, levels 2 and 3 are made again inside each prefix unless `codebooks` is "shared", as the paper's are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn

from genrecall.config.quantizer import CqSidSection, QuantizerSection
from trainer.quantizer.codebook import Codebook
from trainer.quantizer.hierarchical import grow, level1_size
from trainer.quantizer.kmeans import kmeans, label, means
from trainer.quantizer.losses import info_nce
from trainer.quantizer.types import FitInput, QueryItemPairs, RawCodes

TRIPLES_PER_SID = 2.0


class Autoencoder(nn.Module):
    """Vector [n, D] -> z [n, latent] -> vector [n, D], one hidden layer each way."""

    def __init__(self, dim: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, dim))


class Quantized(NamedTuple):
    """vector: [n, d], the sum of the codes, with the gradient of z.
    codes: int64 [n] a level.
    residuals: [n, d] a level, what was left to quantize, without gradient.
    commitment: scalar, squared distance of residual to code, summed over levels and dimensions, averaged over rows.
    """

    vector: Tensor
    codes: list[Tensor]
    residuals: list[Tensor]
    commitment: Tensor


class ItemBatch(NamedTuple):
    """x: [n, D] vectors of items; guide: int64 [n], their level-1 codes, -1 where free; queries: of `_QueryDraw`."""

    x: Tensor
    guide: Tensor
    queries: tuple[Tensor, Tensor, Tensor] | None


def fit_cq_sid(data: FitInput, section: QuantizerSection, seed: int, bar: Progress, device: str = "cpu") -> RawCodes:
    """Train and read off the codes. device: cpu, or cuda:N; what is drawn is drawn on the CPU, so the same on both."""
    vectors, forced, categories, pairs = data
    own = section.cq_sid
    rng = torch.Generator().manual_seed(seed)
    sizes = auto_sizes(own, len(vectors), categories, int((forced < 0).sum()))
    guided = own.guided and categories > 0
    guide = forced if guided else np.full_like(forced, -1)
    guides = torch.from_numpy(guide).to(device)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Autoencoder(vectors.shape[1], own.hidden, own.latent).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=own.learning_rate)
    x = torch.from_numpy(vectors).to(device)
    queries = _QueryDraw(pairs if own.contrasted else None, len(vectors), device)
    books: list[Codebook] = []
    history = []
    task = bar.add_task("cq_sid", total=own.warmup_epochs + own.epochs)
    for epoch in range(own.warmup_epochs + own.epochs):
        if epoch == own.warmup_epochs:
            books = init_codebooks(_z(model, x), guide, categories if guided else 0, sizes, own.batch_size, seed)
        terms = [
            _step(model, optimizer, books, ItemBatch(x[rows], guides[rows], queries.draw(rows, rng)), own, rng)
            for rows in (part.to(device) for part in _batches(len(x), own.batch_size, rng))
        ]
        history.append({name: round(sum(float(t[name]) for t in terms) / len(terms), 6) for name in terms[0]})
        bar.update(task, advance=1, description=f"cq_sid, reconstruction {history[-1]['reconstruction']:.3f}")
    notes = {"ablation": own.ablation, "queries": queries.count, "history": history}
    arrays = {f"codebook{level + 1}": book.embedding.cpu().numpy() for level, book in enumerate(books)}
    z = _z(model, x).cpu().numpy()
    codes = read_codes(arrays, z, guide)
    if own.codebooks == "per_parent":
        used = np.unique(codes[:, 0])
        codes, below = grow(z, codes[:, 0], own.items_per_sid, section, seed, bar, device)
        arrays = {"centroids1": arrays["codebook1"][used], **below}
        sizes = sizes[0], int(codes[:, 1].max()) + 1, int(codes[:, 2].max()) + 1
    return RawCodes(codes, sizes, guided, {**_encoder_arrays(model), **arrays}, notes)


def auto_sizes(section: CqSidSection, items: int, categories: int, without: int) -> tuple[int, int, int]:
    """The codes of each level where the configuration says "auto".

    Level 1: a code a category, and for the items `without` one as many free codes as their number would fill
    categories; with no category at all as hierarchical k-means. Levels 2 and 3: equal powers of two so that
    the three sizes multiply to about TRIPLES_PER_SID for each SID aimed at: shared codebooks leave many triples empty.
    """
    set1, set2, set3 = section.level_sizes
    if set1 != "auto":
        size1 = int(set1)
    elif categories and items > without:
        size1 = categories + math.ceil(without * categories / (items - without))
    else:
        size1 = level1_size("auto", items, section.items_per_sid)
    below = max(1.0, TRIPLES_PER_SID * items / section.items_per_sid / size1)
    even = 2 ** round(math.log2(below) / 2)
    return size1, even if set2 == "auto" else int(set2), even if set3 == "auto" else int(set3)


def init_codebooks(
    z: Tensor, guide: np.ndarray, categories: int, sizes: tuple[int, int, int], batch_size: int, seed: int
) -> list[Codebook]:
    """Codebooks at the start: see 3. above. z: [n, d]; guide: int64 [n], codes 0 .. categories - 1, or -1."""
    residual = z.cpu().numpy()
    per_step = min(1.0, batch_size / len(z))  # of the items under a code, those expected in a batch
    books = []
    for level, size in enumerate(sizes):
        rng = np.random.default_rng((seed, level))
        kept = categories if level == 0 else 0
        free = residual[guide < 0] if kept else residual
        codes = np.zeros((kept, residual.shape[1]), dtype=np.float32)
        if kept:
            codes = means(residual[guide >= 0], guide[guide >= 0], codes)
        if size > kept and len(free):
            codes = np.concatenate([codes, kmeans(free, size - kept, rng)[0]])
        codes = np.concatenate([codes, residual[rng.integers(len(residual), size=size - len(codes))]])
        labels = label(residual, codes)
        if kept:
            labels = np.where(guide >= 0, guide, labels)
        counts = np.bincount(labels, minlength=size) * per_step
        parts = torch.from_numpy(codes), torch.from_numpy(counts).float(), torch.arange(size) < kept
        books.append(Codebook.of(*(part.to(z.device) for part in parts)))
        residual = residual - codes[labels]
    return books


def quantize(z: Tensor, books: list[Codebook], guide: Tensor) -> Quantized:
    """z: [n, d]; guide: int64 [n], the level-1 code, -1 to take the nearest."""
    residual, total, commitment = z, torch.zeros_like(z), z.new_zeros(())
    codes, residuals = [], []
    for level, book in enumerate(books):
        chosen = book.nearest(residual.detach())
        if level == 0:
            chosen = torch.where(guide >= 0, guide, chosen)
        embedding = book.embedding[chosen]
        commitment = commitment + (residual - embedding).square().sum(1).mean()
        codes.append(chosen)
        residuals.append(residual.detach())
        total, residual = total + embedding, residual - embedding
    return Quantized(z + (total - z).detach(), codes, residuals, commitment)


def read_codes(arrays: dict[str, np.ndarray], z: np.ndarray, guide: np.ndarray) -> np.ndarray:
    """int32 [n, 3]: the codes of z, level by level, by the arithmetic that new items will meet."""
    out = []
    for level in range(3):
        book = arrays[f"codebook{level + 1}"]
        codes = label(z, book)
        if level == 0:
            codes = np.where(guide >= 0, guide, codes)
        out.append(codes)
        z = z - book[codes]
    return np.stack(out, axis=1).astype(np.int32)


class _QueryDraw:
    """For a batch of items, one query each, drawn by the weight of its pairs."""

    def __init__(self, pairs: QueryItemPairs | None, items: int, device: str) -> None:
        self.count = 0 if pairs is None else len(pairs.query_idx)
        if pairs is None:
            return
        order = np.argsort(pairs.item_idx, kind="stable")
        cumulative = np.cumsum(pairs.weight[order], dtype=np.float64)
        first = np.searchsorted(pairs.item_idx[order], np.arange(items + 1))
        arrays = pairs.query_vectors, pairs.query_idx[order], cumulative, first
        self.vectors, self.query, self.cumulative, self.first = (torch.from_numpy(a).to(device) for a in arrays)

    def draw(self, rows: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor] | None:
        """(positions in `rows` of the items that have a query, their queries' numbers, their queries' vectors)."""
        if not self.count:
            return None
        begin, end = self.first[rows], self.first[rows + 1]
        has = torch.nonzero(end > begin)[:, 0]
        begin, end = begin[has], end[has]
        before = torch.where(begin > 0, self.cumulative[begin - 1], 0.0)
        drawn = torch.rand(len(has), generator=rng, dtype=torch.float64).to(before.device)
        point = before + drawn * (self.cumulative[end - 1] - before)
        pair = torch.searchsorted(self.cumulative, point, right=True).clamp(begin, end - 1)
        return has, self.query[pair], self.vectors[self.query[pair]]


def _step(
    model: Autoencoder,
    optimizer: torch.optim.Optimizer,
    books: list[Codebook],
    batch: ItemBatch,
    section: CqSidSection,
    rng: torch.Generator,
) -> dict[str, Tensor | int]:
    """One update of the autoencoder and, once they are initialized, of the codebooks; the terms of the loss."""
    z = model.encoder(batch.x)
    quantized = quantize(z, books, batch.guide) if books else Quantized(z, [], [], z.new_zeros(()))
    reconstruction = (model.decoder(quantized.vector) - batch.x).square().sum(1).mean()
    contrast = z.new_zeros(())
    if batch.queries is not None:
        has, query, query_vectors = batch.queries
        contrast = info_nce(z[has], model.encoder(query_vectors), query, section.temperature)
    loss = reconstruction + section.commitment_weight * quantized.commitment + section.contrast_weight * contrast
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    restarted = 0
    for book, codes, residual in zip(books, quantized.codes, quantized.residuals, strict=bool(books)):
        book.update(residual, codes, section.ema_decay)
        restarted += book.restart(residual, section.restart_below, rng)
    terms = {"reconstruction": reconstruction, "commitment": quantized.commitment, "contrast": contrast}
    return {**{name: term.detach() for name, term in terms.items()}, "restarted": restarted}


def _batches(items: int, size: int, rng: torch.Generator) -> Iterator[Tensor]:
    """Row numbers in random order, `size` at a time."""
    yield from torch.randperm(items, generator=rng).split(size)


@torch.no_grad()
def _z(model: Autoencoder, x: Tensor) -> Tensor:
    return torch.cat([model.encoder(part) for part in x.split(65536)])


def _encoder_arrays(model: Autoencoder) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    first, _, last = model.encoder
    for i, layer in enumerate((first, last)):
        arrays |= {f"encoder.{i}.{name}": value.detach().cpu().numpy() for name, value in layer.named_parameters()}
    return arrays
