"""Which codes may follow a prefix: from logits to masked candidates, and from a picked candidate to its node.

Owns the tables on a device and how a level is represented. Knows nothing of the model: a new list of SIDs only needs
new tables. A prefix is the number of its node in its level (`genrecall.sid.Prefixes`), in each representation:

    ranges (CSR)   a slot for each child of the widest node; the children of a node are neighbours, so a slot is a code
                   that is looked up and a logit that is gathered. Always there; 8 bytes a node.
    dense          a slot for each code of the level; a row of a byte a code, added to the logits in place.
    bitmap         the same, a bit a code.

The cost of ranges grows with the widest node, that of the others with the size of the level: `choose`. Nothing waits
for the device, and no shape depends on the values of a tensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor

from genrecall.decoding.decoder import MASKED
from genrecall.sid import LEVELS, Prefixes, SidSpace, by_level

Representation = Literal["ranges", "dense", "bitmap"]
MASK_BYTES = 512 << 20  # what the masks of a served codebook may take in all: enough for five million SIDs
DENSE_BYTES = 4 << 20  # of a level's rows: dense spares an unpacking, a tenth of a step, for eight times the memory
NARROW = 12  # slots a SID, padding included, up to which a padded gather is used over a scatter
WIDE = 0.6  # the widest node's share of a level's codes from which on a mask is faster; at a half they tie
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little").view(np.int64).ravel()


def choose(space: SidSpace, mask_bytes: int) -> tuple[Representation, Representation, Representation]:
    """The fastest representation of each level, by size; docs/results/constraint.md has the figures.

    mask_bytes: what dense tables and bitmaps may take in all; the first levels, which take least, come first.
    """
    chosen: list[Representation] = []
    for code, start, size in zip(space.prefixes.code, space.prefixes.start, space.level_sizes, strict=True):
        parents, keys = len(start) - 1, 8 * len(code)
        dense, bitmap = parents * size + keys, parents * -(-size // 8) + keys
        if np.diff(start).max(initial=0) < WIDE * size or bitmap > mask_bytes:
            chosen.append("ranges")
            continue
        chosen.append("dense" if dense <= min(mask_bytes, DENSE_BYTES + keys) else "bitmap")
        mask_bytes -= dense if chosen[-1] == "dense" else bitmap
    return by_level(chosen)


@dataclass(frozen=True)
class ConstraintTables:
    """The prefixes of a SidSpace on a device.

    Attributes:
        code, start: int32, as in `genrecall.sid.Prefixes` (an exported graph has them as int64).
        width: of each level, the most children that a node has.
        masks: of each level that is dense or a bitmap; None where ranges say what follows.
        narrow: whether padding the children of every node to those of the widest takes little memory; `best_below` then
            does without a scatter, which TensorRT lacks.
    """

    code: tuple[Tensor, Tensor, Tensor]
    start: tuple[Tensor, Tensor, Tensor]
    width: tuple[int, int, int]
    masks: tuple[LevelMask | None, LevelMask | None, LevelMask | None] = (None, None, None)
    narrow: bool = True

    @classmethod
    def build(
        cls,
        space: SidSpace,
        device: str | torch.device = "cpu",
        representations: tuple[Representation, Representation, Representation] = ("ranges", "ranges", "ranges"),
    ) -> Self:
        """The tables of `space`.

        Args:
            representations: of each level; `choose` knows the fastest. A dense prior takes ranges, which is why they
                are the default.

        Raises ValueError for a space without SIDs.
        """
        if not len(space):
            raise ValueError("the codebook has no SID: a search needs at least one")
        prefixes = space.prefixes
        masks = (
            None if kind == "ranges" else LevelMask.build(prefixes, level, size, packed=kind == "bitmap").to(device)
            for level, (kind, size) in enumerate(zip(representations, space.level_sizes, strict=True))
        )
        width = by_level(int(np.diff(start).max()) for start in prefixes.start)
        padded = sum(widest * (len(start) - 1) for widest, start in zip(width[1:], prefixes.start[1:], strict=True))
        return cls(
            by_level(torch.from_numpy(code).to(device) for code in prefixes.code),
            by_level(torch.from_numpy(start).to(device) for start in prefixes.start),
            width,
            by_level(masks),
            padded <= NARROW * len(space),
        )

    @cached_property
    def paths(self) -> Tensor:
        """int64 [n, 3]: of each SID, the node of its prefix in each level."""
        to_first, second = self.above
        return torch.stack((to_first[second], second, torch.arange(len(second), device=second.device)), dim=1)

    @cached_property
    def above(self) -> tuple[Tensor, Tensor]:
        """int64 [nodes of level 2] and int64 [n]: the parent, in the level before, of each node of levels 2 and 3."""
        return self._parents(1), self._parents(2)

    def _parents(self, level: int) -> Tensor:
        node = torch.arange(self.code[level].shape[0], device=self.code[level].device)
        return torch.searchsorted(self.start[level].long(), node, right=True) - 1

    def best_below(self, leaves: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """float32 [B, nodes] of each level: the greatest of the values, [B, n], of the SIDs below each node."""
        second = self._best_child(2, leaves)
        return self._best_child(1, second), second, leaves

    def _best_child(self, level: int, values: Tensor) -> Tensor:
        """float32 [B, parents]: of each node of the level before, the greatest of its children's, [B, nodes]."""
        start, parents = self.start[level], self.start[level].shape[0] - 1
        if self.narrow:  # padding repeats the last child, which changes no maximum
            slot = torch.arange(self.width[level], device=values.device, dtype=start.dtype)
            child = torch.minimum(start[:-1].unsqueeze(-1) + slot, start[1:].unsqueeze(-1) - 1)
            return columns(values, child.flatten()).view(values.shape[0], parents, -1).amax(-1)
        out = values.new_full((values.shape[0], parents), MASKED)
        return out.scatter_reduce(1, self.above[level - 1].expand(values.shape[0], -1), values, "amax")

    def paths_of(self, sid: np.ndarray) -> np.ndarray:
        """int64 [n, 3]: `paths` of some SIDs, int64 [n], on the host."""
        start = self._host_start
        second = np.searchsorted(start[1], sid, side="right") - 1
        return np.stack((np.searchsorted(start[0], second, side="right") - 1, second, sid), axis=1)

    @cached_property
    def _host_start(self) -> tuple[np.ndarray, np.ndarray]:
        return self.start[1].long().cpu().numpy(), self.start[2].long().cpu().numpy()

    @cached_property
    def sids(self) -> Tensor:
        """int64 [n, 3], the codes of each SID."""
        return torch.stack([self.codes(level, self.paths[:, level]) for level in range(LEVELS)], dim=1)

    @property
    def nbytes(self) -> int:
        """Bytes of all tables on the device."""
        masks = sum(mask.nbytes for mask in self.masks if mask)
        return masks + sum(table.nbytes for table in (*self.code, *self.start))

    def codes(self, level: int, node: Tensor) -> Tensor:
        """int64 [...], the code that leads to each node of `level`, int [...]."""
        code = self.code[level].index_select(0, node.flatten())  # code[node] takes thrice as long
        return code.view(node.shape).long()

    def candidates(self, level: int, parent: Tensor, logits: Tensor) -> Tensor:
        """The logits of the slots of each prefix.

        Args:
            parent: int64 [...], nodes of the level before; zeros (the root) at level 0.
            logits: float32 [..., size of the level].

        Returns:
            float32 [..., C], about -1e9 where a slot holds no child. How many slots there are, and what each stands
            for, is up to the representation: see `child` and `slot`.
        """
        mask = self.masks[level]
        if mask is not None:
            return torch.add(logits, mask.forbidden(parent).float(), alpha=MASKED)
        node, valid = self._slots(level, parent)
        return torch.where(valid, logits.gather(-1, self.codes(level, node)), MASKED)

    def child(self, level: int, parent: Tensor, slot: Tensor) -> Tensor:
        """int64 [...]: the node in `level` that a slot of `parent` holds, any in range where it holds none."""
        mask = self.masks[level]
        if mask is not None:
            return mask.child(parent, slot)
        return (self.start[level][parent] + slot).clamp(max=self.code[level].shape[0] - 1)

    def slot(self, level: int, parent: Tensor, node: Tensor) -> Tensor:
        """int64 [...]: the slot of `parent` that holds its child `node`."""
        return self.codes(level, node) if self.masks[level] is not None else node - self.start[level][parent]

    def children(self, level: int, parent: Tensor) -> tuple[Tensor, Tensor]:
        """Node numbers in `level` of the children of `parent` (nodes of the level before), padded to `width[level]`.

        Args:
            parent: int64 [...]; zeros (the root) at level 0.

        Returns:
            nodes int64 [..., width], always in range, and valid bool [..., width], whatever the representation.
        """
        node, valid = self._slots(level, parent)
        return node.long(), valid

    def _slots(self, level: int, parent: Tensor) -> tuple[Tensor, Tensor]:
        start = self.start[level]
        slot = torch.arange(self.width[level], device=parent.device, dtype=start.dtype)
        node = start[parent].unsqueeze(-1) + slot
        valid = node < start[parent + 1].unsqueeze(-1)
        return node.clamp(max=self.code[level].shape[0] - 1), valid


def columns(values: Tensor, at: Tensor) -> Tensor:
    """[B, m]: the columns `at`, int64 [m], of [B, n]; in ONNX Runtime a third of the time that index_select takes."""
    return values.gather(1, at.unsqueeze(0).expand(values.shape[0], -1))


def prefix_nodes(space: SidSpace) -> list[np.ndarray]:
    """Of each level, int32 [nodes]: the row of the first SID under each node (level 3: every row)."""
    _, second, third = space.prefixes.start
    return [third[second[:-1]], third[:-1], np.arange(len(space))]


@dataclass(frozen=True)
class LevelMask:
    """The flags of one level on a device.

    Attributes:
        rows: uint8 [parents, size], 1 where the code is forbidden; or, with `bits`, [parents, size / 8 rounded up] of
            eight such flags a byte, the lowest bit first.
        keys: int32 or int64 [nodes], ascending: parent * size + code of each node of the level.
        size: codes of the level.
        bits: int64 [256], the flags of each byte as eight bytes: one look-up unpacks eight. None for a dense table.
    """

    rows: Tensor
    keys: Tensor
    size: int
    bits: Tensor | None

    @classmethod
    def build(cls, prefixes: Prefixes, level: int, size: int, packed: bool) -> LevelMask:
        """From the prefixes of a space; about a second for five million nodes."""
        start, code = prefixes.start[level], prefixes.code[level]
        parents = len(start) - 1
        keys = np.repeat(np.arange(parents, dtype=np.int64) * size, np.diff(start)) + code
        width = -(-size // 8) if packed else size
        rows = np.full(parents * width, 255 if packed else 1, dtype=np.uint8)
        if packed:
            place = keys // size * width + code // 8
            first = np.flatnonzero(np.diff(place, prepend=-1))
            rows[place[first]] = ~np.bitwise_or.reduceat(np.uint8(1) << (code % 8).astype(np.uint8), first)
        else:
            rows[keys] = 0
        return cls(
            torch.from_numpy(rows.reshape(parents, width)),
            torch.from_numpy(keys if parents * size > np.iinfo(np.int32).max else keys.astype(np.int32)),
            size,
            torch.from_numpy(_BITS) if packed else None,
        )

    def to(self, device: str | torch.device) -> LevelMask:
        bits = None if self.bits is None else self.bits.to(device)
        return LevelMask(self.rows.to(device), self.keys.to(device), self.size, bits)

    @property
    def nbytes(self) -> int:
        return self.rows.nbytes + self.keys.nbytes

    def forbidden(self, parent: Tensor) -> Tensor:
        """uint8 [..., size], 1 where a code may not follow. parent: int64 [...]."""
        rows = self.rows.index_select(0, parent.flatten())
        if self.bits is not None:
            rows = self.bits.index_select(0, rows.flatten().int()).view(torch.uint8).view(len(rows), -1)
        return rows[:, : self.size].view(*parent.shape, self.size)

    def child(self, parent: Tensor, code: Tensor) -> Tensor:
        """The node that `code` leads to, int64 as both are; some other node where it is forbidden."""
        key = (parent * self.size + code).to(self.keys.dtype)
        return torch.searchsorted(self.keys, key).clamp(max=len(self.keys) - 1)
