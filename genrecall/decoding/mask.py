"""Which codes of a level may not follow a prefix: a row of flags a prefix, a byte or a bit each.

Owns the layout of the rows, and the way back from a code to its node. Where a prefix has nearly as many children as
the level has codes, a row of flags added to the logits is cheaper than gathering them (`constraint.choose`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from genrecall.sid import Prefixes

_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little").view(np.int64).ravel()


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
        wanted = (parent * self.size + code).to(self.keys.dtype)
        return torch.searchsorted(self.keys, wanted).clamp(max=len(self.keys) - 1)
