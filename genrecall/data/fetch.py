"""Bringing a public dataset into a folder: from a folder that has the files, else over the network, checked by sha256.

The folder appears whole (with the `dataset.json` that describes it) or not at all.
"""

from __future__ import annotations

import hashlib
import shutil
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from genrecall.data.folder import new_folder, write_description
from genrecall.errors import UserError

CHUNK = 1 << 16
TIMEOUT_S = 30.0
Progress = Callable[[str, int, int], None]  # file name or stage, done so far, in all; of a file: bytes


@dataclass(frozen=True)
class File:
    """One file of a dataset, as published."""

    name: str
    url: str
    sha256: str
    size: int


@dataclass(frozen=True)
class PublicDataset:
    """A dataset: its files, and what `dataset.json` says of them (genrecall.config.data.Description)."""

    name: str
    files: tuple[File, ...]
    description: dict[str, Any]


def fetch(dataset: PublicDataset, to: Path, sources: list[Path], progress: Progress = lambda *_: None) -> str:
    """Fill the folder `to`; return where the files came from, or "already there".

    Args:
        dataset: what to bring.
        to: the folder to fill; kept as it is when it is already whole.
        sources: folders that may hold the files, in order; the first that has them all is used. None: the network.
        progress: called as bytes come over the network.

    Raises:
        UserError: a file whose checksum differs, an address that cannot be reached, a folder that holds other things.
    """
    if is_whole(dataset, to):
        write_description(to, dataset.description)
        return "already there"
    if to.exists() and any(to.iterdir()):
        raise UserError(f"{to} exists and is not the whole {dataset.name} dataset: move it away, or give another --to")
    with new_folder(to, "--to") as folder:
        origin = gather(dataset.files, folder, sources, progress)
        write_description(folder, dataset.description)
    return origin


def gather(files: tuple[File, ...], folder: Path, sources: list[Path], progress: Progress = lambda *_: None) -> str:
    """Bring `files` into `folder`, each checked; return where they came from. Arguments and errors as of `fetch`."""
    held = next((source for source in sources if all((source / file.name).is_file() for file in files)), None)
    for file in files:
        if held:
            shutil.copyfile(held / file.name, folder / file.name)
        else:
            _download(file, folder / file.name, progress)
        _check(file, folder / file.name, str(held / file.name) if held else file.url)
    return str(held) if held else "the network"


def is_whole(dataset: PublicDataset, folder: Path) -> bool:
    """Whether `folder` holds every file with the right checksum."""
    return all((folder / file.name).is_file() and _sha256(folder / file.name) == file.sha256 for file in dataset.files)


def _download(file: File, path: Path, progress: Progress) -> None:
    try:
        with urllib.request.urlopen(file.url, timeout=TIMEOUT_S) as answer, path.open("wb") as out:
            _copy(answer, out, lambda done: progress(file.name, done, file.size))
    except OSError as error:  # URLError, timeouts and broken connections are all OSError
        raise UserError(
            f"{file.url} could not be fetched ({error}). Without a network: give --from DIR, a folder that holds the "
            "files; or make a shop with `genrecall data synthesize --items 10000 --out data/shop` and set "
            "data.folder=data/shop"
        ) from None


def _copy(answer: IO[bytes], out: IO[bytes], progress: Callable[[int], None]) -> None:
    done = 0
    while chunk := answer.read(CHUNK):
        out.write(chunk)
        done += len(chunk)
        progress(done)


def _check(file: File, path: Path, origin: str) -> None:
    found = _sha256(path)
    if found != file.sha256:
        raise UserError(
            f"{origin} is not the file expected: sha256 {found}, {path.stat().st_size} bytes; expected {file.sha256}, "
            f"{file.size} bytes. It is incomplete or another version: fetch again, or give a copy with --from DIR"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
