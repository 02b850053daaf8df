"""Where long jobs report to."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Callbacks of a load, refresh or sync.

    Attributes:
        message: called with a line for the operator.
        advance: called with (documents done, documents in all) after each batch.
    """

    message: Callable[[str], None] = lambda line: None
    advance: Callable[[int, int], None] = lambda done, total: None
