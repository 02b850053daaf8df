"""What an index says about itself: `_meta.genrecall` in its mapping, and its name `<alias>-<codebook>`.

The clause and every job use the codebook that is named there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opensearchpy import OpenSearch

from genrecall.bundle import ITEMS, Bundle
from genrecall.checkpoints import fingerprint, resolve
from genrecall.config.encoder import EncoderSection
from genrecall.config.opensearch import OpenSearchSection
from genrecall.encoder_layout import read_prefixes
from genrecall.errors import UserError


@dataclass(frozen=True)
class IndexMeta:
    """What an index holds.

    Attributes:
        codebook: of its SIDs.
        assignments: sha256 of the bundle's item table.
        encoder: of its vectors, `NAME@KEY`, where the key changes with the checkpoint's files and the settings that
            items are encoded with, so that two machines agree; of indices made by earlier versions the path or name
            that `encoder.checkpoint` had. "" for an index without vectors of ours.
        checkpoint: `encoder.checkpoint` here, to recognize those.
    """

    codebook: str
    assignments: str
    encoder: str = ""
    checkpoint: str = field(default="", compare=False)

    @classmethod
    def of(cls, bundle: Bundle, encoder: EncoderSection | None = None) -> IndexMeta:
        """encoder: of the vectors; None for what has nothing to do with them."""
        assignments = bundle.manifest["files"][ITEMS]["sha256"]
        if encoder is None:
            return cls(bundle.codebook, assignments)
        return cls(bundle.codebook, assignments, encoder_key(encoder), encoder.checkpoint)

    @property
    def body(self) -> dict[str, str]:
        """As the mapping holds it."""
        return {"codebook": self.codebook, "assignments": self.assignments, "encoder": self.encoder}

    def same_encoder(self, found: IndexMeta) -> bool:
        """Whether the vectors of an index that says `found` are by the same encoder as those of this one."""
        if found.encoder in (self.encoder, self.checkpoint):
            return True
        (_, known, key), (_, wanted, ours) = found.encoder.rpartition("@"), self.encoder.rpartition("@")
        return bool(known and wanted) and key == ours


def encoder_key(section: EncoderSection) -> str:
    """`NAME@KEY` of the encoder, see `IndexMeta`. UserError for a checkpoint that cannot be read."""
    folder = resolve(section.checkpoint)
    prefix = read_prefixes(folder).item if section.item_prefix is None else section.item_prefix
    return f"{Path(section.checkpoint).name}@{fingerprint(folder, section.max_tokens, prefix)}"


def index_name(section: OpenSearchSection, codebook: str) -> str:
    """`<alias>-<codebook>`; UserError where OpenSearch would refuse it."""
    name = f"{section.index}-{codebook}"
    if name != name.lower() or len(name.encode()) > 255:
        raise UserError(
            f"codebook {codebook!r} cannot name an index ({name!r}): index names are lower case and at most 255 bytes; "
            "publish the bundle under another codebook name"
        )
    return name


def read_mapping(client: OpenSearch, index: str) -> dict[str, Any]:
    mapping: dict[str, Any] = client.indices.get_mapping(index=index)[index]["mappings"]
    return mapping


def read_meta(client: OpenSearch, index: str) -> IndexMeta:
    """UserError when the index was not made by genrecall."""
    found = read_mapping(client, index).get("_meta", {}).get("genrecall", {})
    if not isinstance(found, dict) or not found.get("codebook"):
        raise UserError(
            f"index {index!r} names no codebook (_meta.genrecall.codebook in its mapping): it was not made by "
            "`genrecall index create`; choose another opensearch.index"
        )
    return IndexMeta(str(found["codebook"]), str(found.get("assignments", "")), str(found.get("encoder", "")))


def vector_dimension(mapping: dict[str, Any]) -> int:
    """Dimension of the vector field; 0 where there is none."""
    return int(mapping.get("properties", {}).get("vector", {}).get("dimension", 0))


def check_meta(client: OpenSearch, index: str, meta: IndexMeta, dimension: int | None = None) -> None:
    """UserError when `index` holds something else than `meta` says, or vectors of another dimension."""
    found = read_meta(client, index)
    remedy = (
        "publish the bundle under another codebook name, choose another opensearch.index, or, where nothing searches "
        "that index, delete it by `genrecall index create --replace`"
    )
    if found.codebook != meta.codebook:
        raise UserError(f"index {index!r} holds codebook {found.codebook!r}, not {meta.codebook!r}: {remedy}")
    if found.assignments != meta.assignments:
        raise UserError(
            f"index {index!r} was made for another bundle of the name {meta.codebook!r}, with other SIDs: {remedy}"
        )
    size = vector_dimension(read_mapping(client, index))
    wanted = size if dimension is None else dimension
    if size != wanted or not meta.same_encoder(found):
        raise UserError(
            f"index {index!r} holds vectors of dimension {size} by encoder {found.encoder!r}, but the section encoder "
            f"(checkpoint, item_prefix, max_tokens) is {meta.encoder!r}, which makes {wanted}: {remedy}"
        )
