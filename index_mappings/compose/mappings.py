"""What a `generative` clause needs of the mappings of the searched indices: the codebook, and a field that holds SIDs.

With the plugin the coordinating node reads the first and each shard checks both.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from index_mappings.compose.options import ClauseError

Index = str | Sequence[str]
MAX_CACHED = 1000  # index expressions


@dataclass(frozen=True)
class ReadMapping:
    """A request for the mappings of `index`; the step's result is OpenSearch's response."""

    index: str


@dataclass(frozen=True)
class SearchedIndex:
    """One mapping.

    Attributes:
        next: codebook of the index that the alias is about to move to, as a refresh announces it.
        types: of each field by its full path, that of its target for an alias.
    """

    name: str
    codebook: str | None
    next: str | None
    types: Mapping[str, str]

    @classmethod
    def of(cls, name: str, about: Mapping[str, Any]) -> SearchedIndex:
        mapping = about.get("mappings", {})
        ours = mapping.get("_meta", {}).get("genrecall")
        ours = ours if isinstance(ours, dict) else {}
        fields = dict(_fields(mapping.get("properties", {}), ""))
        types = {path: fields.get(of.get("path", ""), of).get("type", "object") for path, of in fields.items()}
        return cls(name, _text(ours.get("codebook")), _text(ours.get("next")), types)

    def check(self, field: str, codebooks: Sequence[str], ignore_unmapped: bool) -> None:
        kind = self.types.get(field)
        if kind is None and ignore_unmapped:
            return
        if kind is None:
            raise ClauseError(
                f"[generative] no field [{field}] in index [{self.name}]: name the keyword field that holds SIDs, or "
                "set [ignore_unmapped]"
            )
        if kind != "keyword":
            raise ClauseError(
                f"[generative] field [{field}] of index [{self.name}] is of type [{kind}], but SIDs need a [keyword] "
                "field: name that field, or map this one as keyword and index anew"
            )
        if self.codebook is None:
            raise ClauseError(
                f"[generative] the mapping of index [{self.name}] names no codebook: set [_meta.genrecall.codebook] to "
                "that of its SIDs"
            )
        if self.codebook not in codebooks:
            raise ClauseError(
                f"[generative] index [{self.name}] is of codebook [{self.codebook}], the SIDs are of "
                f"[{', '.join(codebooks)}]: leave [codebook] out, or search an index of that codebook"
            )


@dataclass(frozen=True)
class Searched:
    """The indices behind an expression. `remote`: those of other clusters, whose mappings cannot be read."""

    local: tuple[SearchedIndex, ...]
    remote: tuple[str, ...]

    @property
    def names(self) -> str:
        """As `index` of a search; empty where nothing is searched, as by a pattern without a match."""
        return ",".join([*(index.name for index in self.local), *self.remote])

    @property
    def codebooks(self) -> list[str]:
        return sorted({index.codebook for index in self.local if index.codebook is not None})

    @property
    def announced(self) -> list[str]:
        """Codebooks of indices that aliases are about to move to, beyond those searched."""
        return sorted({index.next for index in self.local if index.next is not None} - {*self.codebooks})

    def check(self, field: str, codebooks: Sequence[str], ignore_unmapped: bool) -> None:
        """ClauseError where an index has no such field, or SIDs of none of `codebooks`."""
        for index in self.local:
            index.check(field, codebooks, ignore_unmapped)


class Mappings:
    """The mappings by index expression, each cached for `ttl_s`."""

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._cached: dict[str, tuple[float, Searched]] = {}

    def read(self, index: Index) -> Generator[ReadMapping, Any, Searched]:
        names = index.split(",") if isinstance(index, str) else list(index)
        now, key = time.monotonic(), ",".join(names)
        if (cached := self._cached.get(key)) and now - cached[0] < self._ttl_s:
            return cached[1]
        local = ",".join(name for name in names if not _is_remote(name))
        mappings = (yield ReadMapping(local)) if local else {}
        searched = Searched(
            tuple(SearchedIndex.of(*about) for about in sorted(mappings.items())), tuple(filter(_is_remote, names))
        )
        if len(self._cached) >= MAX_CACHED:
            self._cached.clear()  # expressions are few, unless they contain dates; then old ones are not needed again
        self._cached[key] = now, searched  # its age counts from the request
        return searched


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _is_remote(name: str) -> bool:
    """`cluster:index`; a date expression such as `<logs-{now/d{HH:mm}}>` has colons of its own."""
    return name.find(":") > 0 and not name.startswith("<")


def _fields(properties: Mapping[str, Any], above: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, definition) of every field, those within objects and within other fields too."""
    for name, definition in properties.items():
        path = f"{above}{name}"
        yield path, definition
        for inner in ("properties", "fields"):
            yield from _fields(definition.get(inner, {}), f"{path}.")
