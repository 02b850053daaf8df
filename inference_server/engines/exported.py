"""What the engines over exported graphs share: constraint tables as their inputs, prompts and SIDs as arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from genrecall import bundle as bundles
from genrecall.bundle import Bundle
from genrecall.decoding.config import CONFIG, GeneratorConfig, check_space, read_folder
from genrecall.decoding.export_modules import Arrays, prompt_arrays, sid_tree_arrays, table_arrays
from genrecall.decoding.request_tokenizer import RequestTokenizer, TokenizedPrompt
from genrecall.decoding.score import CHUNK, SidTree
from genrecall.decoding.tables import ConstraintTables
from inference_server.engines.base import Engine

S = TypeVar("S")


class ExportedEngine(Engine, Generic[S]):
    """An engine over the graphs `search` and `score` that `genrecall export` attached to a bundle.

    Args:
        open_session: (path of a graph without its suffix, the table inputs, equal in every run) -> session.

    Raises UserError where the bundle has no such attachment, or a damaged one.
    """

    def __init__(self, bundle: Bundle, attachment: str, open_session: Callable[[Path, Arrays], S]) -> None:
        bundles.attached(bundle, attachment)
        config, weights = read_folder(bundle.generator_dir)
        block = GeneratorConfig.read(config, bundle.generator_dir / CONFIG)
        check_space(block, bundle.space, bundle.generator_dir)
        super().__init__(bundle, RequestTokenizer.load(bundle.generator_dir, block, bundle.space))
        self._tables = ConstraintTables.build(bundle.space)
        prior = {key.removeprefix("prior."): w for key, w in weights.items() if key.startswith("prior.")}
        tables = table_arrays(self._tables, block, prior)
        self._search = open_session(bundle.path / attachment / "search", tables)
        self._score = open_session(bundle.path / attachment / "score", tables)

    def _search_inputs(self, prompts: Sequence[TokenizedPrompt], width: int) -> Arrays:
        beams = min(width, len(self.bundle.space))  # a wider beam finds nothing more
        return {**self._prompt_arrays(prompts), "beams": np.arange(beams)}

    def _score_inputs(self, prompt: TokenizedPrompt, rows: np.ndarray) -> Iterator[Arrays]:
        """The inputs of one run per chunk of `rows`."""
        inputs = self._prompt_arrays([prompt])
        for at in range(0, len(rows), CHUNK):
            yield {**inputs, **sid_tree_arrays(SidTree.of(self._tables.paths_of(rows[at : at + CHUNK])))}

    def _prompt_arrays(self, prompts: Sequence[TokenizedPrompt]) -> Arrays:
        return prompt_arrays(self.request_tokenizer.batch(prompts), self.request_tokenizer.config)
