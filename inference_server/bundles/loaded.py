"""The bundles that a server holds, by codebook. Immutable: another set of bundles is another `Slots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from genrecall import bundle
from genrecall.bundle import Bundle
from genrecall.config.server import ServerSection
from genrecall.errors import BundleError
from inference_server.bundles.self_test import self_test
from inference_server.engines import Engine, create_engine


class NotHeld(Exception):
    """The codebook asked for is not among those held."""


@dataclass(frozen=True)
class Slots:
    engines: Mapping[str, Engine]
    current: str

    @property
    def names(self) -> list[str]:
        """The codebooks, the current one first."""
        return [self.current, *(name for name in self.engines if name != self.current)]

    def find(self, codebook: str) -> Engine:
        """The engine of `codebook` ("" for the current one); NotHeld, listing those held, when there is none."""
        try:
            return self.engines[codebook or self.current]
        except KeyError:
            held = ", ".join(self.engines)
            raise NotHeld(f"codebook {codebook!r} is not held by this server; held: {held}") from None


def load(root: Path, names: Sequence[str], section: ServerSection) -> Slots:
    """Open bundles: those that are `wanted`. The first answers calls which name no codebook."""
    engines = {found.codebook: open_engine(found.path, section) for found in wanted(root, names, section.hold)}
    return Slots(engines, next(iter(engines)))


def wanted(root: Path, names: Sequence[str], hold: int) -> list[Bundle]:
    """The bundles to hold: those named, or the current one, the previous and the newest others, `hold` in all.

    Names are codebooks, `current` or `previous`. Checksums are not read. Raises BundleError where there is none, or one
    named is missing.
    """
    if names:
        found = [bundle.open(bundle.resolve(root, name), check=False) for name in names]
        return list({opened.codebook: opened for opened in found}.values())
    newest = {opened.codebook: opened for opened in bundle.list_bundles(root)}
    pointers = [bundle.pointer(root, name) for name in bundle.POINTERS]
    first = [name for name in pointers if name in newest]
    if not newest:
        raise BundleError(f"no bundle in {root} to serve: train one with `genrecall train`")
    return [newest[name] for name in dict.fromkeys([*first, *newest])][:hold]


def open_engine(path: Path, section: ServerSection) -> Engine:
    """The engine of the bundle at `path`, its files compared with the manifest; warm and tested.

    Raises UserError for a damaged bundle, one that this machine cannot run, or one whose answers make no sense.
    """
    engine = create_engine(
        bundle.open(path),
        device=section.device,
        engine=section.engine,
        dtype=section.dtype,
        normalizer=section.normalizer,
        threads=section.threads,
    )
    self_test(engine)
    return engine
