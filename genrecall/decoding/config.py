"""The generator's folder: config.json with a `genrecall` block, model.safetensors, tokenizer.json or encoder/, and
evidence.safetensors.

Owns the `genrecall` block, the layout of the vocabulary, the fingerprint of a SID space, and the checks that a folder
fits the codebook it is loaded for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from genrecall import files
from genrecall.decoding.user import UserConfig
from genrecall.errors import UserError
from genrecall.sid import SidSpace, by_level

if TYPE_CHECKING:
    from torch import Tensor

    from genrecall.decoding.heads import Normalizer

CONFIG, WEIGHTS, ENCODER, EVIDENCE = "config.json", "model.safetensors", "encoder", "evidence.safetensors"
MARKERS = ("item", "query")
Marker = Literal["item", "query"]


@dataclass(frozen=True)
class Vocabulary:
    """Kind `lm`: where our tokens stand behind the tokenizer's own ids.

    [item marker, query marker, level 1, level 2, level 3, profiles], each level a contiguous range. Our tokens are ids
    only, unknown to the tokenizer, so no text can spell one. `base` is the number of ids that the tokenizer knows.
    """

    base: int
    level_sizes: tuple[int, int, int]
    profiles: int = 0

    def marker(self, name: Marker) -> int:
        return self.base + MARKERS.index(name)

    @property
    def offsets(self) -> tuple[int, int, int]:
        first = self.base + len(MARKERS)
        return first, first + self.level_sizes[0], first + sum(self.level_sizes[:2])

    @property
    def first_profile(self) -> int:
        return self.base + len(MARKERS) + sum(self.level_sizes)

    @property
    def size(self) -> int:
        return self.first_profile + self.profiles


@dataclass(frozen=True)
class Gates:
    """The share of a search's probability that the decoder gets beside the evidence, 0 to 1, by what is known.

    Attributes:
        new: for a query that training has not seen; familiar: for one that it has; user: for a known user, whatever the
            query.
    """

    new: float = 0.0
    familiar: float = 0.0
    user: float = 0.0

    @property
    def open(self) -> bool:
        """Whether the decoder is asked at all."""
        return max(self.new, self.familiar, self.user) > 0


@dataclass(frozen=True)
class EvidenceConfig:
    """The evidence of a generator (`genrecall.decoding.evidence`).

    Attributes:
        analyzer: the name of the analyzer that the terms are from; language: of its stemmer.
    """

    analyzer: str
    language: str
    gates: Gates = Gates()

    @classmethod
    def read(cls, block: Mapping[str, Any]) -> EvidenceConfig:
        return cls(**{**block, "gates": Gates(**block["gates"])})


@dataclass(frozen=True)
class GeneratorConfig:
    """The `genrecall` block of config.json.

    Attributes:
        kind: "lm" or "encoder".
        level_sizes: codes of each level.
        base: vocabulary rows before the markers and the SID tokens (`encoder`: 0, and no markers).
        normalizer: see LevelHeads.
        prior: whether the weights hold a dense prior.
        max_tokens: of a prompt, or of the encoder's input.
        space: fingerprint of the SIDs that the prior's node vectors belong to.
        lowercase: whether prompts are lower-cased before they are tokenized (a tokenizer trained on the catalogue).
        user: what it reads of a user; None for a generator trained without users, which ignores them.
        evidence: None for one of an earlier version, whose decoder answers alone.
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
    evidence: EvidenceConfig | None = None

    @classmethod
    def read(cls, config: Mapping[str, Any], path: Path) -> GeneratorConfig:
        """From the parsed config.json at `path`. Raises UserError without a usable block."""
        try:
            block = dict(config["genrecall"])
            user = UserConfig.read(block["user"]) if block.get("user") else None
            evidence = EvidenceConfig.read(block["evidence"]) if block.get("evidence") else None
            sizes = by_level(block["level_sizes"])
            return cls(**{**block, "level_sizes": sizes, "user": user, "evidence": evidence})
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path} has no usable 'genrecall' block ({error}): it was not written by genrecall"
            ) from None

    def write(self) -> dict[str, Any]:
        return {**asdict(self), "level_sizes": list(self.level_sizes)}

    @property
    def vocabulary(self) -> Vocabulary:
        """Of kind `lm`."""
        return Vocabulary(self.base, self.level_sizes, len(self.user.profiles) if self.user else 0)

    @property
    def offsets(self) -> tuple[int, int, int]:
        """The vocabulary row of code 0 of each level."""
        if self.kind == "lm":
            return self.vocabulary.offsets
        return 0, self.level_sizes[0], self.level_sizes[0] + self.level_sizes[1]

    @property
    def per_sid(self) -> bool:
        """Whether the folder holds arrays of the SIDs it was published with: a prior's, or evidence."""
        return self.prior or self.evidence is not None

    @property
    def users_beside_prompt(self) -> bool:
        """Whether users are inputs beside the prompt (`encoder`) rather than tokens in it (`lm`)."""
        return self.kind == "encoder" and self.user is not None


def space_fingerprint(space: SidSpace) -> str:
    """16 hex digits that change with any SID or level size."""
    sizes, sids = np.array(space.level_sizes, dtype=np.int64), np.ascontiguousarray(space.sids, dtype=np.int32)
    return files.sha256_of([sizes.tobytes(), sids.tobytes()])[:16]


def check_space(config: GeneratorConfig, space: SidSpace, folder: Path) -> None:
    """UserError where the generator was trained for other levels, or its node vectors for another list of SIDs."""
    if config.level_sizes != space.level_sizes:
        raise UserError(
            f"{folder} was trained for level sizes {config.level_sizes}, the codebook has {space.level_sizes}: "
            "load it with the codebook it was published with"
        )
    if config.per_sid and config.space != space_fingerprint(space):
        raise UserError(
            f"{folder} holds vectors or words of other SIDs than the codebook's: load it with the codebook it was "
            "published with"
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


def read_evidence(folder: Path) -> dict[str, Tensor]:
    """The tensors of evidence.safetensors, mapped into memory. Raises UserError where it is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(folder / EVIDENCE)
    except FileNotFoundError:
        raise UserError(f"{folder / EVIDENCE} is missing: publish the bundle again") from None
    except SafetensorError as error:
        raise UserError(f"{folder / EVIDENCE} is damaged: {error}") from None
