"""Hot reload: bundles that appear under the root are opened aside and swapped in between two batches.

A bundle is opened, warmed and tested on a thread of its own, while the ones held go on answering; memory holds one more
bundle meanwhile. One that fails changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from genrecall.bundle import Bundle
from genrecall.errors import UserError
from inference_server.batching.compute import LocalCompute
from inference_server.bundles.loaded import Slots, open_engine, wanted
from inference_server.engines import Engine
from inference_server.telemetry.logs import event

log = logging.getLogger(__name__)


class Reloader:
    """Keeps what `compute` holds up to date with the bundles under `root`.

    Args:
        names: codebooks, `current` or `previous`, as on the command line; none: as many of the newest as are held.
    """

    def __init__(self, root: Path, names: Sequence[str], compute: LocalCompute) -> None:
        self._root = root
        self._names = names
        self._compute = compute
        self._refused: object = None  # the bundles as they were when they failed

    async def watch(self, asked: asyncio.Event) -> None:
        """Look every `server.watch_s` (0: never), and whenever `asked` is set. Ends when cancelled."""
        every = self._compute.section.watch_s
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(asked.wait(), every or None)
            if asked.is_set():
                asked.clear()
                self._refused = None  # somebody asks: tell what is wrong again
            await self.look()

    async def look(self) -> None:
        """Bring what is held up to date. A failure is logged and counted once, until the files change."""
        state: object = None
        try:
            state = await asyncio.to_thread(_state, self._root)
            if state == self._refused:
                return
            found = await asyncio.to_thread(wanted, self._root, self._names, self._compute.section.hold)
            await self._hold(found)
        except Exception as error:  # whatever a bundle does to the libraries that read it, the server goes on
            self._refused = state
            self._compute.metrics.reloads.labels("failed").inc()
            traceback = None if isinstance(error, UserError) else error
            event(log, logging.ERROR, "reload failed", traceback, reason=str(error), held=" ".join(self._held.engines))

    @property
    def _held(self) -> Slots:
        return self._compute.slots

    async def _hold(self, found: Sequence[Bundle]) -> None:
        if self._fits(found):
            return
        engines: dict[str, Engine] = dict(self._held.engines)
        for opened in found:
            if opened.codebook not in engines:
                event(log, logging.INFO, "loading", codebook=opened.codebook)
                engines[opened.codebook] = await asyncio.to_thread(open_engine, opened.path, self._compute.section)
        order = list(dict.fromkeys([*(opened.codebook for opened in found), *self._held.engines]))
        kept = order[: max(self._compute.section.hold, len(found))]
        slots = Slots({name: engines[name] for name in kept}, kept[0])
        await self._compute.swap(slots)
        self._compute.metrics.reloads.labels("swapped").inc()
        event(
            log,
            logging.INFO,
            "reloaded",
            current=slots.current,
            held=" ".join(kept),
            model=engines[kept[0]].bundle.model,
        )

    def _fits(self, found: Sequence[Bundle]) -> bool:
        return found[0].codebook == self._held.current and all(one.codebook in self._held.engines for one in found)


def _state(root: Path) -> object:
    """Changes with any file under `root`: names, sizes, times of change, and where links point to."""
    paths = [os.path.join(folder, name) for folder, inner, names in os.walk(root) for name in (*inner, *names)]
    return {path: _stamp(path) for path in paths}


def _stamp(path: str) -> tuple[int, int, int] | None:
    """None for a file that went away meanwhile."""
    try:
        stat = os.lstat(path)
    except FileNotFoundError:
        return None
    return stat.st_size, stat.st_mtime_ns, stat.st_ino
