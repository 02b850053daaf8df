"""The decoder's matrices in eight bits: half the bytes of bfloat16 to read, on devices that multiply them.

Weights are e4m3 with one scale an output, activations are rounded as they come, with one scale a row. Embeddings,
heads, norms and whatever else a generator has stay as they are. What it costs is measured by `benchmarks.gpu`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genrecall.decoding.decoder import MLP, Attention, Decoder
from genrecall.errors import UserError

LARGEST = 448.0  # of e4m3
NEEDED = (8, 9)  # compute capability
SIZES = 16  # by which the sides of a matrix divide


class Float8Linear(nn.Module):
    """`nn.Linear` in e4m3; bfloat16 in and out."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        scale = linear.weight.detach().float().abs().amax(1, keepdim=True).clamp(min=1e-12) / LARGEST
        self.register_buffer("weight", (linear.weight.detach().float() / scale).to(torch.float8_e4m3fn))
        self.register_buffer("scale", scale.T.contiguous())
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(0, -2)
        scale = rows.abs().amax(-1, keepdim=True).float().clamp(min=1e-12) / LARGEST
        rounded = (rows / scale).to(torch.float8_e4m3fn)
        weight, of_weight = self.get_buffer("weight").T, self.get_buffer("scale")
        out = torch._scaled_mm(rounded, weight, scale, of_weight, bias=self.bias, out_dtype=x.dtype)
        return out.unflatten(0, x.shape[:-1])


def to_float8(decoder: Decoder) -> None:
    """Replace the matrices of the layers, in place. Raises UserError for sizes that the product does not take."""
    for part in [module for module in decoder.modules() if isinstance(module, Attention | MLP)]:
        for name, linear in list(part.named_children()):
            assert isinstance(linear, nn.Linear)
            if linear.in_features % SIZES or linear.out_features % SIZES:
                raise UserError(
                    f"server.dtype is 'float8', but {name} is {linear.out_features} x {linear.in_features}: both "
                    f"must divide by {SIZES}, use bfloat16"
                )
            setattr(part, name, Float8Linear(linear))


def check_float8(device: torch.device) -> None:
    """UserError where `device` does not multiply e4m3."""
    if device.type != "cuda":
        raise UserError("server.dtype is 'float8', which needs a CUDA device: use float32 or bfloat16 on a CPU")
    if torch.cuda.get_device_capability(device) < NEEDED:
        raise UserError(
            f"server.dtype is 'float8', but {torch.cuda.get_device_name(device)} does not multiply it (compute "
            f"capability {NEEDED[0]}.{NEEDED[1]} or later does): use bfloat16"
        )
