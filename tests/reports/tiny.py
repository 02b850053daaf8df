"""The run that the tests of the report read: one of seconds, as it was when it was killed and as it ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from genrecall.config import Config
from genrecall.reports import Run

TINY = Path(__file__).parents[2] / "configs" / "tiny.yaml"


@dataclass(frozen=True)
class Reported:
    """The run as it was when it was killed, and as it ended."""

    settings: Config
    overrides: list[str]
    interrupted: Run
    finished: Run
