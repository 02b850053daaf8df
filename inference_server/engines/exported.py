"""What the engines over exported graphs share: constraint tables as their inputs, prompts and SIDs as arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np

from genrecall import bundle as bundles
from genrecall.bundle import Bundle
from genrecall.decoding.export_modules import Arrays, ModuleInputs
from genrecall.decoding.request_tokenizer import TokenizedPrompt
from genrecall.errors import UserError
from inference_server.engines.base import Engine


class Session(Protocol):
    """A graph that can be run. reads: the names of its inputs."""

    reads: frozenset[str]


S = TypeVar("S", bound=Session)


class ExportedEngine(Engine, Generic[S]):
    """An engine over the graphs `search` and `score` that `genrecall export` attached to a bundle.

    Args:
        open_session: (path of a graph without its suffix, the table inputs, equal in every run) -> session.

    Raises UserError where the bundle has no such attachment, a damaged one, or one that cannot use the bundle's memory.
    """

    def __init__(self, bundle: Bundle, attachment: str, open_session: Callable[[Path, Arrays], S]) -> None:
        bundles.attached(bundle, attachment)
        self._inputs = ModuleInputs.load(bundle.generator_dir, bundle.space)
        super().__init__(bundle, self._inputs.request_tokenizer)
        self._search = open_session(bundle.path / attachment / "search", self._inputs.of_codebook)
        self._score = open_session(bundle.path / attachment / "score", self._inputs.of_codebook)
        moves = "sid_vectors" in self._inputs.of_codebook and self.request_tokenizer.memory is not None
        if moves and "wanted" not in self._search.reads & self._score.reads:
            raise UserError(
                f"{bundle.path / attachment} is of a version that knew no memory, and the bundle has one: make it anew "
                "with `genrecall export`, or remove the memory with `genrecall remember --forget`"
            )

    def _search_inputs(self, prompts: Sequence[TokenizedPrompt], width: int) -> Arrays:
        beams = min(width, len(self.bundle.space))  # a wider beam finds nothing more
        return {**self._inputs.prompts(prompts), "beams": np.arange(beams)}

    def _score_inputs(self, prompt: TokenizedPrompt, rows: np.ndarray) -> Iterator[Arrays]:
        """The inputs of one run per chunk of `rows`."""
        prompts = self._inputs.prompts([prompt])
        for tree in self._inputs.trees(rows):
            yield {**prompts, **tree}
