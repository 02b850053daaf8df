"""The artifact on disk: codes, generator and manifest of one codebook, published whole and never changed afterwards.

Owns the folder layout, checksums, publishing by atomic rename, and the names `current` and `previous`. What is derived
from a bundle for one runtime (`onnx/float32`, `tensorrt/...`) is attached later, each with a manifest of its own, and
changes nothing that was published; so is what queries are remembered by (`generator/memory`), to be renewed from newer
logs. What the files mean belongs to `genrecall.decoding` (generator/) and to the trainer
(quantizer.safetensors). Pickle is never read.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genrecall import files
from genrecall.errors import BundleError
from genrecall.item_table import ItemTable
from genrecall.records import ASSIGNMENTS
from genrecall.sid import SidSpace, check_codebook

FORMAT = 1
MANIFEST = "manifest.json"
ITEMS = "items.parquet"
ITEM_TABLE = "items.safetensors"  # item -> SID, to be mapped into memory: derived from the items
CONSTRAINT = "constraint.safetensors"  # the valid SIDs, sorted, and their prefixes: derived from the items
GENERATOR = "generator"
QUANTIZER = "quantizer.safetensors"
ENCODER = "encoder"  # the sentence encoder behind the item vectors; inside the generator where that one reads with it
POINTERS = ("current", "previous")
BUNDLE_KEYS = ("codebook", "model", "kind", "level_sizes", "files")  # required in the manifest of a bundle
ATTACHMENT_KEYS = ("codebook", "model", "files")  # required in the manifest of an attachment
MEMORY = f"{GENERATOR}/memory"
ATTACHMENTS = ("onnx/*", "tensorrt/*/*", MEMORY)  # folders in a bundle that its own manifest does not list


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its folder and its manifest. Small in memory: tables are read on demand."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def codebook(self) -> str:
        return str(self.manifest["codebook"])

    @property
    def model(self) -> str:
        """Name and version of the generator: `encoder-3f2a91c4d0`."""
        return str(self.manifest["model"])

    @property
    def level_sizes(self) -> tuple[int, int, int]:
        k1, k2, k3 = self.manifest["level_sizes"]
        return k1, k2, k3

    @property
    def generator_dir(self) -> Path:
        return self.path / GENERATOR

    @property
    def quantizer_path(self) -> Path:
        return self.path / QUANTIZER

    @property
    def encoder_dir(self) -> Path | None:
        """Where the sentence encoder behind the item vectors lies; None in a bundle that was published without it."""
        places = (ENCODER, f"{GENERATOR}/{ENCODER}")
        return next((self.path / place for place in places if f"{place}/config.json" in self.manifest["files"]), None)

    @property
    def size(self) -> int:
        """Bytes of all files listed in the manifest."""
        return sum(entry["size"] for entry in self.manifest["files"].values())

    def items(self) -> pa.Table:
        """The assignments, one row an item (ASSIGNMENTS)."""
        return pq.read_table(self.path / ITEMS, schema=ASSIGNMENTS)

    @cached_property
    def space(self) -> SidSpace:
        """The valid SIDs: those that some item has. Mapped from disk; sorted here where an older bundle has no file."""
        if CONSTRAINT in self.manifest["files"]:
            return SidSpace.load(self.path / CONSTRAINT, self.level_sizes)
        return SidSpace.of(codes_of(self.items()), self.level_sizes)

    @cached_property
    def item_table(self) -> ItemTable:
        """The SID of each item. Mapped from disk; made here where an older bundle has no file."""
        if ITEM_TABLE in self.manifest["files"]:
            return ItemTable.load(self.path / ITEM_TABLE)
        items = self.items()
        return ItemTable.of(items["item_id"].to_pylist(), codes_of(items), self.space)

    @property
    def items_per_sid(self) -> np.ndarray:
        """int32 [n]: how many items have each SID of `space`."""
        return self.item_table.items_per_sid


def require_fit(bundle: Bundle, item_ids: pa.ChunkedArray, most: float) -> None:
    """BundleError, with figures, where the bundle lacks more than the share `most` of a catalogue's items."""
    known = bundle.items()["item_id"]
    lacking = len(item_ids) - (pc.sum(pc.is_in(item_ids, known.combine_chunks())).as_py() or 0)
    if lacking <= most * len(item_ids):
        return
    origin = bundle.manifest.get("config", {}).get("data", {}).get("folder", "another one")
    raise BundleError(
        f"bundle {bundle.codebook!r} lacks {lacking:,} of the catalogue's {len(item_ids):,} items "
        f"({lacking / len(item_ids):.1%}; it has {len(known):,}, of {origin}), more than opensearch.max_unknown = "
        f"{most:.0%}: name the bundle of this catalogue with --bundle, or train one"
    )


def codes_of(assignments: pa.Table) -> np.ndarray:
    """int32 [n, 3] of an ASSIGNMENTS table."""
    flat = assignments["codes"].combine_chunks().flatten()
    return flat.to_numpy().astype(np.int32, copy=False).reshape(-1, 3)


def assignments_table(item_ids: Sequence[str], codes: np.ndarray) -> pa.Table:
    """An ASSIGNMENTS table of n `item_ids` and `codes` int [n, 3]."""
    codes = np.ascontiguousarray(codes, dtype=np.int32)
    if codes.shape != (len(item_ids), 3):
        raise ValueError(f"codes must have shape [{len(item_ids)}, 3], found {codes.shape}")
    paths = pc.binary_join_element_wise(*(pa.array(level).cast(pa.string()) for level in codes.T), "/")
    column = pa.FixedSizeListArray.from_arrays(pa.array(codes.ravel()), 3)
    return pa.table([pa.array(item_ids, pa.string()), column, paths], schema=ASSIGNMENTS)


@dataclass(frozen=True)
class Contents:
    """What a bundle is published with, apart from the files of its generator and quantizer.

    Attributes:
        item_ids: of the catalogue, unique.
        codes: int [items, 3], the SID of each item.
        level_sizes: number of codes of each level.
        kind: of the generator, `lm` or `encoder`.
        config: the full configuration of the run.
        fingerprints: name of an input -> sha256.
        metrics: as shown by the model card and the report.
    """

    item_ids: Sequence[str]
    codes: np.ndarray
    level_sizes: tuple[int, int, int]
    kind: str
    config: Mapping[str, Any] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)


def publish(
    root: Path, codebook: str, contents: Contents, write: Callable[[Path], None], make_current: bool = True
) -> Bundle:
    """Write a bundle beside its final place, then rename it into `root/codebook`.

    Args:
        write: called with the folder under construction; adds `generator/`, `quantizer.safetensors`, `MODEL_CARD.md`,
            and `encoder/` where the generator holds none. A `generator/memory` becomes an attachment.
        make_current: move `current` to this bundle, and `previous` to the one that was current.

    Raises BundleError when the codebook exists already: a bundle never changes, so a new one needs a new name. A full
    disk or a crash leaves nothing under the final name.
    """
    check_codebook(codebook)
    if codebook in POINTERS:
        raise BundleError(f"codebook {codebook!r} is a reserved name: choose another, such as 'v1'")
    final = root / codebook
    if final.exists():
        raise BundleError(f"bundle {final} exists and is never changed: publish under a new codebook name")
    with _new_folder(final) as folder:
        table = assignments_table(contents.item_ids, contents.codes)
        space = SidSpace.of(contents.codes, contents.level_sizes)  # refuses codes outside the levels
        pq.write_table(table, folder / ITEMS, compression="zstd")
        space.save(folder / CONSTRAINT)
        ItemTable.of(contents.item_ids, contents.codes, space).save(folder / ITEM_TABLE)
        write(folder)
        entries = {name: entry for name, entry in _entries(folder).items() if not name.startswith(f"{MEMORY}/")}
        weights = entries.get(f"{GENERATOR}/model.safetensors")
        if weights is None:
            raise BundleError(f"{folder}: generator/model.safetensors was not written")
        manifest = {
            "format": FORMAT,
            "codebook": codebook,
            "kind": contents.kind,
            "model": f"{contents.kind}-{weights['sha256'][:10]}",
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "level_sizes": list(contents.level_sizes),
            "items": len(contents.item_ids),
            "sids": len(space),
            "files": entries,
            "config": contents.config,
            "fingerprints": dict(contents.fingerprints),
            "versions": _versions(),
            "metrics": contents.metrics,
        }
        files.write_json(folder / MANIFEST, manifest)
        if (folder / MEMORY).is_dir():
            _write_attachment(Bundle(folder, manifest), folder / MEMORY, {"source": "training"})
    if make_current:
        point(root, codebook)
    return open(final)


def open(path: Path, check: bool = True) -> Bundle:
    """Open the bundle at `path`; with `check` every file's size and sha256 is compared with the manifest, also those
    of the memory.

    Raises BundleError, naming the file, for a missing or malformed manifest, an unknown format, a missing, truncated or
    altered file.
    """
    manifest = _read_manifest(path, BUNDLE_KEYS)
    if check:
        _require_intact(path, manifest)
        if (path / MEMORY).is_dir():
            attached(Bundle(path, manifest), MEMORY)
    return Bundle(path, manifest)


def verify(path: Path) -> Iterator[str]:
    """Compare a bundle and its attachments with their manifests; yield a sentence for each fault."""
    yield from _faults(path, _read_manifest(path, BUNDLE_KEYS))
    for folder in sorted(f for pattern in ATTACHMENTS for f in path.glob(pattern) if not f.name.startswith(".")):
        manifest = _read_manifest(folder, ATTACHMENT_KEYS)
        yield from (f"{folder.relative_to(path)}: {fault}" for fault in _faults(folder, manifest))


def attach(bundle: Bundle, name: str, write: Callable[[Path], Mapping[str, Any]]) -> Path:
    """Put something derived from a bundle inside it, in place of an earlier one of that name, by atomic renames.

    Args:
        name: relative folder, such as `onnx/float32`.
        write: called with the folder under construction; returns facts for its manifest.

    Raises BundleError where it cannot be written; then nothing is attached.
    """
    final = bundle.path / name
    with _new_folder(final, replace=True) as folder:
        _write_attachment(bundle, folder, write(folder))
    return final


def _write_attachment(bundle: Bundle, folder: Path, facts: Mapping[str, Any]) -> None:
    created = datetime.now(UTC).isoformat(timespec="seconds")
    about = {"format": FORMAT, "codebook": bundle.codebook, "model": bundle.model, "created": created}
    files.write_json(folder / MANIFEST, about | {"files": _entries(folder)} | dict(facts))


def attached(bundle: Bundle, name: str) -> Mapping[str, Any]:
    """The manifest of what is attached as `name`, its files verified.

    Raises BundleError where there is none, a file differs, or it was made from another generator.
    """
    path = bundle.path / name
    if not path.is_dir():
        raise BundleError(f"bundle {bundle.path} has no {name}: make it with `{_maker(name)}`")
    manifest = _read_manifest(path, ATTACHMENT_KEYS)
    _require_intact(path, manifest)
    if (manifest["codebook"], manifest["model"]) != (bundle.codebook, bundle.model):
        made_from = f"{manifest['codebook']}'s {manifest['model']}"
        raise BundleError(f"{path} was made from {made_from}: make it again with `{_maker(name)}`")
    return manifest


def attached_manifest(bundle: Bundle, name: str) -> bytes:
    """The manifest of what is attached as `name`, as it is on disk; b"" where there is none."""
    try:
        return (bundle.path / name / MANIFEST).read_bytes()
    except OSError:
        return b""


def detach(bundle: Bundle, name: str) -> bool:
    """Remove what is attached as `name`, out of sight at once; False where there is nothing."""
    path = bundle.path / name
    if not path.is_dir():
        return False
    _remove(path)
    return True


def _maker(attachment: str) -> str:
    return "genrecall remember" if attachment == MEMORY else "genrecall export"


def attachments(bundle: Bundle) -> dict[str, int]:
    """Name -> bytes of what is attached, checksums not compared."""
    folders = sorted(f for pattern in ATTACHMENTS for f in bundle.path.glob(pattern) if (f / MANIFEST).is_file())
    return {
        str(folder.relative_to(bundle.path)): sum(file.stat().st_size for file in folder.iterdir())
        for folder in folders
        if not folder.name.startswith(".")
    }


def resolve(root: Path, name: str = "current") -> Path:
    """The folder of a codebook, `current` or `previous`. BundleError, which lists the bundles, for any other name."""
    path = root / name
    if (path / MANIFEST).is_file():
        return path.resolve() if name in POINTERS else path
    present = [b.codebook for b in list_bundles(root, damaged=lambda error: None)]
    if present and name in POINTERS:
        raise BundleError(
            f"no bundle is {name!r} in {root}; there are {', '.join(present)}: name one with --bundle, or make it "
            f"current with `genrecall bundle use {present[0]}`"
        )
    there = ", ".join(present) or "none"
    raise BundleError(f"no bundle {name!r} in {root} (there: {there}); train one with `genrecall train`")


def list_bundles(root: Path, damaged: Callable[[BundleError], None] | None = None) -> list[Bundle]:
    """Every bundle under `root`, newest first; checksums are not compared. Folders under construction are skipped.

    damaged: called for a bundle that cannot be opened, which is then passed over; without it the error is raised.
    """
    if not root.is_dir():
        return []
    folders = [
        p for p in root.iterdir() if not p.is_symlink() and not p.name.startswith(".") and (p / MANIFEST).is_file()
    ]
    found = []
    for folder in folders:
        try:
            found.append(open(folder, check=False))
        except BundleError as error:
            if damaged is None:
                raise
            damaged(error)
    return sorted(found, key=lambda b: (b.manifest["created"], b.codebook), reverse=True)


def pointer(root: Path, name: str) -> str | None:
    """The codebook that `current` or `previous` names, None where it is not set."""
    link = root / name
    return os.readlink(link) if link.is_symlink() else None


def point(root: Path, codebook: str) -> None:
    """Move `current` to `codebook` and `previous` to what was current. Each link is replaced atomically."""
    resolve(root, codebook)
    was = pointer(root, "current")
    if was and was != codebook:
        _link(root, "previous", was)
    _link(root, "current", codebook)


def remove(bundle: Bundle) -> None:
    """Delete a bundle: out of sight at once, then file by file."""
    _remove(bundle.path)


def _remove(folder: Path) -> None:
    doomed = folder.with_name(f".{folder.name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)  # of a removal that was interrupted
    folder.rename(doomed)
    shutil.rmtree(doomed)


def unused(root: Path, keep: int) -> list[Bundle]:
    """The bundles beyond the newest `keep` that neither `current` nor `previous` names."""
    named = {pointer(root, name) for name in POINTERS}
    return [bundle for bundle in list_bundles(root)[keep:] if bundle.path.name not in named]


def _link(root: Path, name: str, target: str) -> None:
    with files.replacing(root / name) as link:
        link.symlink_to(target)


@contextmanager
def _new_folder(final: Path, replace: bool = False) -> Iterator[Path]:
    """`files.new_folder`, flushed to the disk; an error of the file system becomes a BundleError."""
    try:
        with files.new_folder(final, replace=replace, durable=True) as folder:
            yield folder
    except OSError as error:
        raise BundleError(f"{final} could not be written: {error}; nothing was published") from error


def _read_manifest(path: Path, required: Sequence[str]) -> dict[str, Any]:
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"{path} is not a bundle: it has no {MANIFEST}") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BundleError(f"{path / MANIFEST} is not JSON ({error}): the bundle is damaged, publish it again") from None
    version = manifest.get("format") if isinstance(manifest, dict) else None
    if version != FORMAT:
        raise BundleError(
            f"bundle {path} has format {version!r}, this version reads {FORMAT}: upgrade genrecall or publish again"
        )
    missing = [key for key in required if key not in manifest]
    if missing:
        raise BundleError(f"{path / MANIFEST} lacks {', '.join(missing)}: the bundle is damaged, publish it again")
    return manifest


def _entries(folder: Path) -> dict[str, dict[str, Any]]:
    """Relative path -> size and sha256 of every file."""
    return {
        str(path.relative_to(folder)): {"size": path.stat().st_size, "sha256": files.sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _faults(path: Path, manifest: Mapping[str, Any]) -> Iterator[str]:
    for name, entry in manifest["files"].items():
        file = path / name
        if not file.resolve().is_relative_to(path.resolve()):
            yield f"{name} lies outside the bundle"
        elif not file.is_file():
            yield f"{name} is missing"
        elif file.stat().st_size != entry["size"]:
            yield f"{name} has {file.stat().st_size} bytes, {entry['size']} were published (truncated copy?)"
        elif files.sha256(file) != entry["sha256"]:
            yield f"{name} was altered: its sha256 differs from the manifest"


def _require_intact(path: Path, manifest: Mapping[str, Any]) -> None:
    if faults := list(_faults(path, manifest)):
        raise BundleError(f"{path} is damaged: " + "; ".join(faults))


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for package in ("genrecall", "numpy", "pyarrow", "torch", "transformers"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
