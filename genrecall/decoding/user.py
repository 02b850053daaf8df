"""Users of requests: their profile and the SIDs they were last interested in, and what a generator reads of them.

An unknown user adds nothing to a prompt. Needs no torch: `user_prefix` has the tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from genrecall.sid import LEVELS

FIELDS = ("gender", "age_band")


@dataclass(frozen=True)
class User:
    """One user of a request.

    Attributes:
        gender, age_band: "" where unknown.
        recent: int [h, 3], SIDs of what they clicked or bought, newest first.
    """

    gender: str = ""
    age_band: str = ""
    recent: np.ndarray = field(default_factory=lambda: np.empty((0, LEVELS), dtype=np.int32))


@dataclass(frozen=True)
class UserConfig:
    """What a generator reads of users; part of its config.json.

    Attributes:
        profiles: the values it was trained on, `gender=f`, `age_band=25-34`; others count as unknown.
        recent: how many SIDs of a user's history it reads at most.
        related: level-1 codes that count as related to a query; 0: all.
    """

    profiles: tuple[str, ...]
    recent: int
    related: int

    @classmethod
    def read(cls, block: Mapping[str, Any]) -> UserConfig:
        return cls(tuple(block["profiles"]), block["recent"], block["related"])
