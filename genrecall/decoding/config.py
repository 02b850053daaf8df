"""The generator's folder: config.json with a `genrecall` block, model.safetensors, tokenizer.json or encoder/.

Owns what the block says, the fingerprint of a space of SIDs, and the checks that a folder fits the codebook it is
loaded for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from genrecall.decoding.heads import Normalizer
from genrecall.decoding.prompt_template import Vocabulary
from genrecall.decoding.user import UserConfig
from genrecall.errors import UserError
from genrecall.sid import SidSpace

CONFIG, WEIGHTS, ENCODER = "config.json", "model.safetensors", "encoder"


@dataclass(frozen=True)
class GeneratorConfig:
    """The `genrecall` block of config.json.

    Attributes:
        kind: "lm" or "encoder".
        level_sizes: codes of each level.
        base: vocabulary rows before the markers and the SID tokens (`encoder`: 0, and no markers).
        normalizer: see LevelHeads.
        prior: whether the weights hold a prefix prior.
        max_tokens: of a prompt, or of the encoder's input.
        space: fingerprint of the SIDs that the prior's node vectors belong to.
        lowercase: whether prompts are lower-cased before they are tokenized (a tokenizer trained on the catalogue).
        user: what it knows of users; None for a generator that never met one, which ignores them.
    """

    kind: str
    level_sizes: tuple[int, int, int]
    base: int
    normalizer: Normalizer
    prior: bool
    max_tokens: int
    space: str
    lowercase: bool = False
    user: UserConfig | None = None

    @classmethod
    def read(cls, config: Mapping[str, Any], path: Path) -> GeneratorConfig:
        try:
            block = dict(config["genrecall"])
            user = UserConfig.read(block["user"]) if block.get("user") else None
            return cls(**{**block, "level_sizes": tuple(block["level_sizes"]), "user": user})
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{path} has no usable 'genrecall' block ({error}): it was not written by genrecall"
            ) from None

    def write(self) -> dict[str, Any]:
        return {**asdict(self), "level_sizes": list(self.level_sizes)}

    @property
    def offsets(self) -> tuple[int, int, int]:
        if self.kind == "lm":
            return Vocabulary(self.base, self.level_sizes).offsets
        return 0, self.level_sizes[0], self.level_sizes[0] + self.level_sizes[1]


def space_fingerprint(space: SidSpace) -> str:
    """16 hex digits that change with any SID or level size."""
    digest = hashlib.sha256(np.array(space.level_sizes, dtype=np.int64).tobytes())
    digest.update(np.ascontiguousarray(space.sids, dtype=np.int32).tobytes())
    return digest.hexdigest()[:16]


def check_space(block: GeneratorConfig, space: SidSpace, folder: Path) -> None:
    """UserError where the generator was trained for other levels, or its node vectors for another list of SIDs."""
    if block.level_sizes != space.level_sizes:
        raise UserError(
            f"{folder} was trained for level sizes {block.level_sizes}, the codebook has {space.level_sizes}: "
            "load it with the codebook it was published with"
        )
    if block.prior and block.space != space_fingerprint(space):
        raise UserError(
            f"{folder} holds node vectors of other SIDs than the codebook's: a generator with a prior goes with "
            "the SIDs it was published with"
        )


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The parsed config.json and the tensors of model.safetensors. Raises UserError for what is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return json.loads((folder / CONFIG).read_text()), load_file(folder / WEIGHTS)
    except FileNotFoundError as error:
        raise UserError(f"{folder} is not a generator: {error.filename or error} is missing") from None
    except (json.JSONDecodeError, SafetensorError) as error:
        raise UserError(f"{folder} is damaged: {error}") from None
