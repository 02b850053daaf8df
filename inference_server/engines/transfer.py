"""Between host and device in one copy each way a batch, through pinned memory that is used again.

A copy from ordinary memory makes the host wait, and one a tensor costs more than the search of a small model. Used by
one thread, which waits for the result of a batch before it sends the next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

ALIGNED = 16  # bytes, so that every tensor in the buffer can be of any dtype


class Transfer:
    """Copies to and from `device`; on a CPU the same without pinning."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._out, self._back = self._buffer(1 << 16), self._buffer(1 << 16)
        self._sent = torch.cuda.Event() if device.type == "cuda" else None

    def to_device(self, arrays: Sequence[np.ndarray]) -> list[Tensor]:
        """The arrays as tensors on the device, of the same shapes and dtypes."""
        places = [0]
        for array in arrays:
            places.append(places[-1] + math.ceil(array.nbytes / ALIGNED) * ALIGNED)
        if self._sent is not None:
            self._sent.synchronize()  # the buffer may still be read
        if places[-1] > len(self._out):
            self._out = self._buffer(2 * places[-1])
        for array, at in zip(arrays, places, strict=False):
            self._out[at : at + array.nbytes].numpy()[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        sent = self._out[: places[-1]].to(self._device, non_blocking=True, copy=True)
        if self._sent is not None:
            self._sent.record()
        return [
            sent[at : at + array.nbytes].view(torch.from_numpy(np.empty(0, array.dtype)).dtype).view(array.shape)
            for array, at in zip(arrays, places, strict=False)
        ]

    def to_host(self, tensors: Sequence[Tensor]) -> list[np.ndarray]:
        """The tensors as arrays of their own, once all that was launched on the current stream is done."""
        flat = [tensor.contiguous().view(-1).view(torch.uint8) for tensor in tensors]
        sizes = [len(part) for part in flat]
        if sum(sizes) > len(self._back):
            self._back = self._buffer(2 * sum(sizes))
        self._back[: sum(sizes)].copy_(torch.cat(flat), non_blocking=True)
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()
        parts = self._back[: sum(sizes)].split(sizes)
        return [
            part.clone().view(tensor.dtype).view(tensor.shape).numpy()
            for part, tensor in zip(parts, tensors, strict=True)
        ]

    def _buffer(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
