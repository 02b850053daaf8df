"""What a person sees of work that takes a while: messages and progress bars, on standard error, off with `--quiet`."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

# Called as work goes on: name of a file or a stage, how much is done, how much there is.
OnProgress = Callable[[str, int, int], None]

# Square brackets in a message are text, not markup.
console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


class Bars(Progress):
    """Bars with a description, a count, and the time left, which becomes the time taken when a bar is full.

    shown: draw nothing where it is false. transient: the bars go when the work is done.
    """

    def __init__(self, shown: bool = True, transient: bool = False) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        super().__init__(*columns, console=console, transient=transient, disable=not shown)

    def counter(self, description: str, total: int | None = None) -> Callable[[int], None]:
        """Add a bar; returns a function that takes how many more are done. total: None where nobody knows."""
        task = self.add_task(description, total=total)
        return lambda n: self.advance(task, n)

    def show(self, stage: str, done: int, total: int) -> None:
        """An OnProgress: a bar for each stage, added when it is first named."""
        task = next((task.id for task in self.tasks if task.description == stage), None)
        self.update(self.add_task(stage) if task is None else task, completed=done, total=total)


def no_progress(stage: str, done: int, total: int) -> None:
    """An OnProgress that shows nothing."""
