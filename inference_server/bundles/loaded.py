"""The bundles that a server has loaded, by codebook: which to load, loading and testing them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from genrecall import bundle
from genrecall.bundle import Bundle
from genrecall.config.server import ServerSection
from genrecall.errors import BundleError, UserError
from inference_server.batching.batcher import BatchSettings
from inference_server.bundles.self_test import self_test
from inference_server.engines import Engine, create_engine, find_source
from inference_server.engines.base import Source
from inference_server.telemetry.logs import event

log = logging.getLogger(__name__)


class BundleNotLoaded(Exception):
    """The codebook of the request is not loaded."""


@dataclass(frozen=True)
class LoadedBundles:
    """One engine per codebook. Immutable: a reload makes a new one."""

    engines: Mapping[str, Engine]
    current: str

    @property
    def names(self) -> list[str]:
        """The codebooks, the current one first."""
        return [self.current, *(name for name in self.engines if name != self.current)]

    def find(self, codebook: str) -> Engine:
        """The engine of `codebook` ("": of the current one); raises BundleNotLoaded, which lists those loaded."""
        try:
            return self.engines[codebook or self.current]
        except KeyError:
            names = ", ".join(self.engines)
            raise BundleNotLoaded(f"codebook {codebook!r} is not loaded on this server; loaded: {names}") from None


def load_bundles(root: Path, names: Sequence[str], section: ServerSection) -> LoadedBundles:
    """Open the bundles that `select_bundles` chooses. The first answers calls that name no codebook.

    One that does not open is reported and passed over, unless it was named or is the only one: UserError.
    """
    engines: dict[str, Engine] = {}
    failed: list[UserError] = []
    for one in select_bundles(root, names, section.max_loaded):
        try:
            engines[one.codebook] = open_engine(one.path, section)
        except UserError as error:
            if names:
                raise
            failed.append(error)
            report_damaged(error)
    if not engines:
        raise failed[0]
    return LoadedBundles(engines, next(iter(engines)))


def report_damaged(error: UserError) -> None:
    event(log, logging.ERROR, "bundle passed over", reason=str(error))


def select_bundles(
    root: Path, names: Sequence[str], max_loaded: int, damaged: Callable[[BundleError], None] = report_damaged
) -> list[Bundle]:
    """The bundles to serve: those named, or the current one, the previous and the newest others, `max_loaded` in all.

    Names are codebooks, `current` or `previous`. Checksums are not verified yet. Raises BundleError where there is no
    bundle, or a named one is missing.
    """
    if names:
        named = [bundle.open(bundle.resolve(root, name), check=False) for name in names]
        return list({opened.codebook: opened for opened in named}.values())
    newest = {opened.codebook: opened for opened in bundle.list_bundles(root, damaged)}
    pointers = [bundle.pointer(root, name) for name in bundle.POINTERS]
    first = [name for name in pointers if name in newest]
    if not newest:
        raise BundleError(f"no bundle in {root} to serve: train one with `genrecall train`")
    return [newest[name] for name in dict.fromkeys([*first, *newest])][:max_loaded]


def engine_source(bundle: Bundle, section: ServerSection) -> Source:
    """What `open_engine` would make an engine from now."""
    return find_source(bundle, section.device, section.engine, section.dtype)


def open_engine(path: Path, section: ServerSection) -> Engine:
    """The engine of the bundle at `path`: checksums verified, warmed up for every width and batch, and tested.

    Raises UserError for a damaged bundle, one that this machine cannot run, or one that fails the self-test.
    """
    engine = create_engine(
        bundle.open(path),
        device=section.device,
        engine=section.engine,
        dtype=section.dtype,
        threads=section.threads,
        compiled=section.torch_compile,
    )
    if engine.max_beam_width < section.default_k:
        raise UserError(
            f"bundle {engine.bundle.codebook!r} is not served: {engine.name} computes beams of at most "
            f"{engine.max_beam_width}, and server.default_k is {section.default_k}; lower it, or export a wider beam"
        )
    self_test(engine)
    engine.capture(section.computed_widths(engine.max_beam_width), BatchSettings.of(section))
    return engine
