"""Hot reload: new bundles under the root, and what was attached to those loaded (an export, a memory), are opened in
the background and swapped in between two batches.

A bundle is opened, warmed up and tested on a thread of its own, while those loaded go on answering; memory holds one
more bundle meanwhile. One that fails changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from genrecall import bundle
from genrecall.bundle import Bundle
from genrecall.errors import BundleError, UserError
from inference_server.batching.executor import Executor
from inference_server.bundles.loaded import LoadedBundles, engine_source, open_engine, report_damaged, select_bundles
from inference_server.engines import Engine
from inference_server.telemetry.logs import event

log = logging.getLogger(__name__)


class Reloader:
    """Keeps the bundles that `executor` has loaded up to date with those under `root`.

    Args:
        names: codebooks, `current` or `previous`, as on the command line; empty: the newest.
    """

    def __init__(self, root: Path, names: Sequence[str], executor: Executor) -> None:
        self._root = root
        self._names = names
        self._executor = executor
        self._reported: set[str] = set()
        self._failed_state: object = None  # of the files when a reload failed

    async def watch(self, requested: asyncio.Event) -> None:
        """Reload every `server.reload_interval_s` (0: never), and whenever `requested` is set. Ends when cancelled."""
        interval_s = self._executor.section.reload_interval_s
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(requested.wait(), interval_s or None)
            if requested.is_set():
                requested.clear()
                self._failed_state = None  # try again, and log again what is wrong
            await self.reload()

    async def reload(self) -> None:
        """Bring the loaded bundles up to date. A failure is logged and counted once, until the files change."""
        state: object = None
        try:
            state = await asyncio.to_thread(_state, self._root)
            if state == self._failed_state:
                return
            max_loaded = self._executor.section.max_loaded
            select = partial(select_bundles, self._root, self._names, max_loaded, self._damaged)
            await self._serve(await asyncio.to_thread(select))
        except Exception as error:  # whatever a bundle does to the libraries that read it, the server goes on
            self._failed_state = state
            self._executor.metrics.reloads.labels("failed").inc()
            traceback = None if isinstance(error, UserError) else error
            names = " ".join(self._loaded.engines)
            event(log, logging.ERROR, "reload failed", traceback, reason=str(error), loaded=names)

    def _damaged(self, error: BundleError) -> None:
        """Reported once. The one that is to be current, or is, must not be passed over for another: UserError."""
        current = bundle.pointer(self._root, "current")
        if current and f"{self._root / current}/" in str(error):
            raise error
        if str(error) not in self._reported:
            self._reported.add(str(error))
            report_damaged(error)

    @property
    def _loaded(self) -> LoadedBundles:
        return self._executor.loaded

    async def _serve(self, selected: Sequence[Bundle]) -> None:
        outdated = [opened for opened in selected if not self._is_served(opened)]
        if not outdated and selected[0].codebook == self._loaded.current:
            return
        engines: dict[str, Engine] = dict(self._loaded.engines)
        failed: list[Exception] = []
        for opened in outdated:
            event(log, logging.INFO, "loading", codebook=opened.codebook)
            try:
                engines[opened.codebook] = await asyncio.to_thread(open_engine, opened.path, self._executor.section)
            except Exception as error:
                failed.append(error)
        names = [opened.codebook for opened in selected if opened.codebook in engines]
        # Without the one that is to be current, or anything new, all stays.
        if failed and (selected[0].codebook not in engines or len(failed) == len(outdated)):
            raise failed[0]
        order = list(dict.fromkeys([*names, *self._loaded.engines]))
        kept = order[: max(self._executor.section.max_loaded, len(selected))]
        loaded = LoadedBundles({name: engines[name] for name in kept}, kept[0])
        await self._executor.swap(loaded)
        self._executor.metrics.reloads.labels("swapped").inc()
        model = engines[kept[0]].bundle.model
        event(log, logging.INFO, "reloaded", current=loaded.current, loaded=" ".join(kept), model=model)
        if failed:
            raise failed[0]

    def _is_served(self, opened: Bundle) -> bool:
        """Whether this bundle is, as it is now: an export or a memory may have been attached."""
        engine = self._loaded.engines.get(opened.codebook)
        return engine is not None and engine.source == engine_source(opened, self._executor.section)


def _state(root: Path) -> object:
    """Changes with any file under `root`: names, sizes, times of change, and targets of links."""
    paths = [os.path.join(folder, name) for folder, inner, names in os.walk(root) for name in (*inner, *names)]
    return {path: _stamp(path) for path in paths}


def _stamp(path: str) -> tuple[int, int, int] | None:
    """None for a file that was removed meanwhile."""
    try:
        stat = os.lstat(path)
    except FileNotFoundError:
        return None
    return stat.st_size, stat.st_mtime_ns, stat.st_ino
