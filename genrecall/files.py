"""Files and folders that are written whole or not at all, and checksums: the one place that renames and hashes.

Standard library and NumPy alone, so that every part may use it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from genrecall.errors import UserError

_DTYPES = {"I64": np.int64, "I32": np.int32, "F32": np.float32, "F16": np.float16}  # of safetensors, those we write


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A path beside `path` to write to; renamed to `path` when the block succeeds, removed when it raises.

    Parent folders are made. The file gets the permissions of the umask, whatever its writer chose: safetensors and ONNX
    Runtime keep theirs to the owner. durable: fsync the file before the rename and its folder afterwards.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(path)
    try:
        yield partial
        _permit(partial)
        if durable:
            sync(partial)
        os.replace(partial, path)
        if durable:
            sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path, *, replace: bool = False, durable: bool = False) -> Iterator[Path]:
    """A folder beside `path` to fill; renamed to `path` when the block succeeds, removed when it raises.

    Parent folders are made, and permissions set as by `replacing`. FileExistsError where `path` is occupied, unless
    `replace`. durable: fsync all files before the rename and the parent folder afterwards.
    """
    if not replace and occupied(path):
        raise FileExistsError(f"{path} exists and is not an empty folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, replaced = _beside(path), _beside(path)
    partial.mkdir()
    try:
        yield partial
        for entry in (*partial.rglob("*"), partial):
            _permit(entry)
            if durable:
                sync(entry)
        if replace and path.exists():
            path.rename(replaced)
        partial.rename(path)
        if durable:
            sync(path.parent)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def occupied(path: Path) -> bool:
    """Whether there is a file, or a folder that is not empty."""
    return path.exists() and (not path.is_dir() or any(path.iterdir()))


def write_bytes(path: Path, content: bytes, *, durable: bool = False) -> Path:
    """Write `content`, replacing what is there; returns `path`."""
    with replacing(path, durable=durable) as partial:
        partial.write_bytes(content)
    return path


def write_text(path: Path, text: str, *, durable: bool = False) -> Path:
    """Write `text` as UTF-8; what cannot be encoded (a lone surrogate in a title) becomes `?`."""
    return write_bytes(path, text.encode("utf-8", "replace"), durable=durable)


def write_json(path: Path, value: Any, *, indent: int | None = 2, durable: bool = False) -> Path:
    """Write JSON and a line end. Numbers of NumPy are written as floats, anything else that JSON lacks as text."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=_plain)
    return write_text(path, text + "\n", durable=durable)


def mapped(path: Path, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Arrays of a safetensors file mapped into memory, by name: the library's own reader for NumPy copies them.

    Pages are read on first use and shared between processes. names: those wanted; None: all.
    Raises UserError for a file that is missing, damaged, or lacks one of `names`.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, size)))
        wanted = [name for name in header if name != "__metadata__"] if names is None else names
        return {name: _mapped(path, header[name], 8 + length) for name in wanted}
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f"{path} is damaged: {error!r}") from None


def _mapped(path: Path, about: Mapping[str, Any], start: int) -> np.ndarray:
    dtype, shape = _DTYPES[about["dtype"]], tuple(about["shape"])
    if 0 in shape:  # nothing to map
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "c", start + about["data_offsets"][0], shape)


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """Of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(parts: Iterable[bytes | str]) -> str:
    """Of the parts one after another, in hexadecimal; text is encoded as UTF-8."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part)
    return digest.hexdigest()


def key_of(value: Any) -> str:
    """sha256 of a JSON value, independent of the order of its keys: a name for what was made from these settings."""
    return sha256_of([json.dumps(value, sort_keys=True, default=str)])


def _umask() -> int:
    mask = os.umask(0o022)  # it cannot be read without being set
    os.umask(mask)
    return mask


_UMASK = _umask()  # once, while there is one thread


def _permit(path: Path) -> None:
    wanted = (0o777 if path.is_dir() else 0o666) & ~_UMASK
    if not path.is_symlink() and path.stat().st_mode & 0o777 != wanted:
        path.chmod(wanted)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")


def _plain(value: Any) -> Any:
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)
