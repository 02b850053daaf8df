"""Bringing a public dataset into a folder: from a folder that has the files, else over the network, checked by sha256.

The folder appears whole (with the `dataset.json` that describes it) or not at all.
"""

from __future__ import annotations

import shutil
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrecall import files
from genrecall.data.writers import new_dataset, write_description
from genrecall.errors import UserError
from genrecall.progress import OnProgress, no_progress

CHUNK = 1 << 16
TIMEOUT_S = 30.0
SHARED = Path("../shared/data")  # where datasets are looked for before the network is used


@dataclass(frozen=True)
class PublishedFile:
    """One file of a dataset, as published."""

    name: str
    url: str
    sha256: str
    size: int


@dataclass(frozen=True)
class PublicDataset:
    """A dataset: its files, and its `dataset.json` (genrecall.config.data.Description)."""

    name: str
    files: tuple[PublishedFile, ...]
    description: dict[str, Any]


def source_folders(name: str, published: Sequence[PublishedFile], chosen: Path | None) -> list[Path]:
    """Where to look for the files of the dataset `name` before the network: the folder `chosen` (--from), else SHARED.

    UserError where the chosen folder lacks a file.
    """
    if chosen and not all((chosen / file.name).is_file() for file in published):
        raise UserError(f"--from {chosen} must hold {' and '.join(file.name for file in published)}")
    return [chosen or SHARED / name]


def fetch(dataset: PublicDataset, to: Path, sources: Sequence[Path], progress: OnProgress = no_progress) -> str:
    """Fill the folder `to`; return where the files came from, or "already there".

    Args:
        dataset: what to fetch.
        to: the folder to fill; kept as it is when it is already complete.
        sources: folders that may have the files; the first that has them all is used, else the network.
        progress: called as bytes come over the network, with the file's name.

    Raises:
        UserError: a file whose checksum differs, an address that cannot be reached, a folder that holds other things.
    """
    if all((to / file.name).is_file() and files.sha256(to / file.name) == file.sha256 for file in dataset.files):
        write_description(to, dataset.description)
        return "already there"
    if files.occupied(to):
        raise UserError(f"{to} exists and is not the whole {dataset.name} dataset: move it away, or give another --to")
    with new_dataset(to, "--to") as folder:
        origin = fetch_files(dataset.files, folder, sources, progress)
        write_description(folder, dataset.description)
    return origin


def fetch_files(
    published: Sequence[PublishedFile], folder: Path, sources: Sequence[Path], progress: OnProgress = no_progress
) -> str:
    """Bring the `published` files into `folder`, each checked. Other arguments, errors and result as of `fetch`."""
    local = next((source for source in sources if all((source / file.name).is_file() for file in published)), None)
    for file in published:
        if local:
            shutil.copyfile(local / file.name, folder / file.name)
        else:
            _download(file, folder / file.name, progress)
        _check(file, folder / file.name, str(local / file.name) if local else file.url)
    return str(local or "the network")


def _download(file: PublishedFile, path: Path, progress: OnProgress) -> None:
    try:
        with urllib.request.urlopen(file.url, timeout=TIMEOUT_S) as response, path.open("wb") as out:
            while chunk := response.read(CHUNK):
                out.write(chunk)
                progress(file.name, out.tell(), file.size)
    except OSError as error:  # URLError, timeouts and broken connections are all OSError
        raise UserError(
            f"{file.url} could not be fetched ({error}). Without a network: give --from DIR, a folder that holds the "
            "files; or make a shop with `genrecall data synthesize --items 10000 --out data/shop` and set "
            "data.folder=data/shop"
        ) from None


def _check(file: PublishedFile, path: Path, origin: str) -> None:
    sha256 = files.sha256(path)
    if sha256 != file.sha256:
        raise UserError(
            f"{origin} is not the file expected: sha256 {sha256}, {path.stat().st_size} bytes; expected {file.sha256}, "
            f"{file.size} bytes. It is incomplete or another version: fetch again, or give a copy with --from DIR"
        )
