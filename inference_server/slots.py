"""The bundles that a server holds, by codebook. Immutable: another set of bundles is another `Slots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from genrecall import bundle
from genrecall.errors import BundleError
from inference_server.engines import Engine, create_engine


class NotHeld(Exception):
    """The codebook asked for is not among those held."""


@dataclass(frozen=True)
class Slots:
    engines: Mapping[str, Engine]
    current: str

    def find(self, codebook: str) -> Engine:
        """The engine of `codebook` ("" for the current one); NotHeld, listing those held, when there is none."""
        try:
            return self.engines[codebook or self.current]
        except KeyError:
            held = ", ".join(self.engines)
            raise NotHeld(f"codebook {codebook!r} is not held by this server; held: {held}") from None


def load(root: Path, codebooks: Sequence[str], hold: int, device: str) -> Slots:
    """Open and warm bundles: those named, or the current one and the newest others, `hold` in all.

    The first is the one that answers calls which name no codebook.
    """
    names = list(dict.fromkeys(codebooks)) or _newest(root, hold)
    if not names:
        raise BundleError(f"no bundle in {root} to serve: train one with `genrecall train configs/demo.yaml`")
    engines: dict[str, Engine] = {}
    for name in names:
        opened = bundle.open(bundle.resolve(root, name))
        engines[opened.codebook] = create_engine(opened, device)
    return Slots(engines, next(iter(engines)))


def _newest(root: Path, hold: int) -> list[str]:
    pointers = [bundle.pointer(root, name) for name in bundle.POINTERS]
    newest = [b.codebook for b in bundle.list_bundles(root)]
    return list(dict.fromkeys([name for name in [*pointers, *newest] if name in newest]))[:hold]
