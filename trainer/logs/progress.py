"""Bars on stderr, one for each step of a long build."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Bars:
    """A context in which steps are shown; silent where `shown` is false."""

    def __init__(self, shown: bool) -> None:
        columns = (
            TextColumn("logs: {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True, disable=not shown)

    def start(self, step: str, total: int | None = None) -> Callable[[int], None]:
        """Begin a step; returns what to tell of each further `n` that is done. total: None where nobody knows."""
        task = self._progress.add_task(step, total=total)
        return lambda n: self._progress.advance(task, n)

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()
