"""Where to compute: the `device` of a setting as torch's. Loads torch, so callers import it late."""

from __future__ import annotations

import torch

from genrecall.errors import UserError


def find_device(name: str, setting: str) -> torch.device:
    """auto: CUDA where torch sees some, the CPU otherwise; cpu, cuda or cuda:N as they are.

    setting: named in the UserError for a name that is none of these, or a device that torch does not see.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"{setting} is {name!r}: use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        seen = torch.cuda.device_count()
        raise UserError(f"{setting} is {name!r}, but torch sees {seen or 'no'} CUDA device: use 'cpu' or 'auto'")
    return device
