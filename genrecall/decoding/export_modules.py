"""The whole search, and the whole scoring, as one function of tensors: what is exported to ONNX and TensorRT.

Owns the names, order and types of the inputs and outputs, for the exporter and for the engines that feed it.
Everything that belongs to the list of SIDs comes in as an input, so new SIDs need new inputs and no new export:
  prompts  ids, mask; kind `encoder` with users also recent, profile (`PromptBatch`); with evidence
           also gate, and lexical, the BM25 of every SID, which is added up on the host, and of kind `encoder` wanted,
           what the memory adds to the query's vector, zeros without one
  tables   code1..3, start1..3, slots1..3 (`ConstraintTables`; slots is 0 .. width-1, whose length alone is read);
           vectors1..3, log_items1..3 where there is a dense prior; sids where users are read beside the prompt;
           sid_log_items, sid_vectors, node_vectors (`Evidence`) where there is evidence, and above2..3
           (`ConstraintTables.above`) where the tree of SIDs is not narrow, or there are node vectors
  search   beams: 0 .. W-1, whose length alone is read           -> sid int64 [B, W], score float32 [B, W]
  scoring  first, second, parent, sid, leaf (`SidTree`), B = 1    -> score float32 [n]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from genrecall.decoding.config import CONFIG, GeneratorConfig, check_space, read_folder
from genrecall.decoding.evidence import Evidence
from genrecall.decoding.generator import Generator, load_evidence
from genrecall.decoding.lexical import Postings
from genrecall.decoding.request_tokenizer import RequestTokenizer, TokenizedPrompt
from genrecall.decoding.score import CHUNK, SidTree, mixed_score
from genrecall.decoding.search import DecodeState, Prefix, beam_search
from genrecall.decoding.tables import ConstraintTables
from genrecall.decoding.user_prefix import Users
from genrecall.sid import LEVELS, SidSpace, by_level

Arrays = dict[str, np.ndarray]
SEARCH_OUTPUTS, SCORE_OUTPUTS = ("sid", "score"), ("score",)
PROMPT_INPUTS = ("ids", "mask", "recent", "profile", "gate", "lexical", "wanted")
SID_TREE_INPUTS = ("first", "second", "parent", "sid", "leaf")


class ExportModule(nn.Module):
    """What both modules share: named tensors as prefix and tables."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.prefix_embedder = generator.prefix_embedder
        self.decoder = generator.decoder
        self.heads = generator.heads
        self.evidence = generator.evidence
        config = generator.request_tokenizer.config
        self.narrow = generator.tables.narrow
        self.gated = config.evidence is not None and config.evidence.gates.open

    def prefix(self, inputs: Mapping[str, Tensor]) -> Prefix:
        users, tokens = None, inputs["ids"]
        if "recent" in inputs:
            users = Users(inputs["profile"], inputs["recent"])
            tokens = inputs["sids"] + torch.tensor(self.heads.offsets)
        prefix: Prefix = self.prefix_embedder(inputs["ids"], inputs["mask"], users, tokens)
        if self.evidence is None:
            return prefix
        dense = self.evidence.dense(prefix.text, self.tables(inputs), inputs.get("wanted"))
        evidence = self.evidence.combine(dense, inputs["lexical"], self.evidence.weights)
        return replace(prefix, evidence=evidence, gate=inputs["gate"] if self.gated else None)

    def tables(self, inputs: Mapping[str, Tensor]) -> ConstraintTables:
        code, start, slots = ([inputs[f"{name}{n}"] for n in (1, 2, 3)] for name in ("code", "start", "slots"))
        width = by_level(s.shape[0] for s in slots)
        tables = ConstraintTables(by_level(code), by_level(start), width, narrow=self.narrow)
        if "above2" in inputs:  # where the cached property keeps them: exporters know no binary search
            vars(tables)["above"] = inputs["above2"], inputs["above3"]
        return tables


class SearchModule(ExportModule):
    """The beam search of one batch."""

    outputs = SEARCH_OUTPUTS

    def forward(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        width = inputs["beams"].shape[0]
        beams = beam_search(self.decoder, self.heads, self.tables(inputs), self.prefix(inputs), width)
        return beams.sid, beams.scores


class ScoreModule(ExportModule):
    """The scores of the SIDs of a tree."""

    outputs = SCORE_OUTPUTS

    def forward(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        prefix = self.prefix(inputs)
        tree = SidTree(*(inputs[name] for name in SID_TREE_INPUTS))
        state = DecodeState.prefill(self.decoder, prefix) if prefix.asks_decoder else None
        return (mixed_score(self.heads, self.tables(inputs), state, prefix, tree),)


class Positional(nn.Module):
    """A module whose forward takes its tensors one after another, as an exporter wants it.

    names: of the tensors, in order. Those of the prior's nodes and of the evidence stand in for the buffers that the
    generator came with.
    """

    def __init__(self, module: SearchModule | ScoreModule, names: Sequence[str]) -> None:
        super().__init__()
        self.module = module
        self.names = tuple(names)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        inputs = dict(zip(self.names, tensors, strict=True))
        buffers = {f"heads.prior.{kind}_{level}": f"{kind}{level + 1}" for kind, level in NODE_ARRAYS}
        buffers |= {f"evidence.{buffer}": name for name, buffer in EVIDENCE_ARRAYS.items()}
        return functional_call(
            self.module, {key: inputs[name] for key, name in buffers.items() if name in inputs}, (inputs,)
        )


NODE_ARRAYS = [(kind, level) for kind in ("vectors", "log_items") for level in range(LEVELS)]
EVIDENCE_ARRAYS = {"sid_log_items": "log_items", "sid_vectors": "vectors", "node_vectors": "node_vectors"}


@dataclass(frozen=True)
class ModuleInputs:
    """One generator's inputs of the exported modules, as arrays by name.

    Attributes:
        of_codebook: those that change with the list of SIDs alone; an engine keeps them on its device.
        postings: what a query's words say of every SID, where there is evidence.
    """

    request_tokenizer: RequestTokenizer
    tables: ConstraintTables
    of_codebook: Arrays
    postings: Postings | None = None

    @classmethod
    def of(cls, generator: Generator) -> ModuleInputs:
        prior = generator.heads.prior
        return cls._made(
            generator.request_tokenizer, generator.tables, prior.state_dict() if prior else {}, generator.evidence
        )

    @classmethod
    def load(cls, folder: Path, space: SidSpace) -> ModuleInputs:
        """From a bundle's `generator/` alone, without its decoder. Raises UserError as `Generator.load` does."""
        parsed, weights = read_folder(folder)
        config = GeneratorConfig.read(parsed, folder / CONFIG)
        check_space(config, space, folder)
        prior = {key.removeprefix("prior."): w for key, w in weights.items() if key.startswith("prior.")}
        evidence = load_evidence(folder) if config.evidence else None
        return cls._made(RequestTokenizer.load(folder, config, space), ConstraintTables.build(space), prior, evidence)

    @classmethod
    def _made(
        cls,
        request_tokenizer: RequestTokenizer,
        tables: ConstraintTables,
        prior: Mapping[str, Tensor],
        evidence: Evidence | None,
    ) -> ModuleInputs:
        """prior: `vectors_0`, `log_items_0`, ... where there is one."""
        arrays: Arrays = {}
        for level in range(LEVELS):
            arrays[f"code{level + 1}"] = tables.code[level].long().cpu().numpy()
            arrays[f"start{level + 1}"] = tables.start[level].long().cpu().numpy()
            arrays[f"slots{level + 1}"] = np.arange(tables.width[level])
        for kind, level in NODE_ARRAYS if request_tokenizer.config.prior else ():
            arrays[f"{kind}{level + 1}"] = prior[f"{kind}_{level}"].float().cpu().numpy()
        if request_tokenizer.config.users_beside_prompt:
            arrays["sids"] = tables.sids.cpu().numpy()
        if evidence is not None:
            if not tables.narrow or evidence.node_vectors is not None:
                arrays |= {f"above{n}": of.cpu().numpy() for n, of in zip((2, 3), tables.above, strict=True)}
            buffers = dict(evidence.named_buffers())
            arrays |= {n: buffers[b].cpu().numpy() for n, b in EVIDENCE_ARRAYS.items() if b in buffers}
            postings = Postings(*(buffers[name].cpu().numpy() for name in ("start", "sid", "impact")))
            return cls(request_tokenizer, tables, arrays, postings)
        return cls(request_tokenizer, tables, arrays)

    def prompts(self, prompts: Sequence[TokenizedPrompt]) -> Arrays:
        """Those that change with every call."""
        batch = self.request_tokenizer.batch(prompts)
        arrays = {"ids": batch.ids, "mask": batch.mask}
        if self.request_tokenizer.config.users_beside_prompt:
            arrays |= {"recent": batch.recent, "profile": batch.profile}
        if self.postings is not None:
            lexical = np.stack([self.postings.scores(p.terms, len(self.request_tokenizer.space)) for p in prompts])
            arrays |= {"gate": batch.gate, "lexical": lexical}
            if "sid_vectors" in self.of_codebook:
                none = np.zeros((len(prompts), self.of_codebook["sid_vectors"].shape[1]), np.float32)
                arrays["wanted"] = none if batch.wanted is None else batch.wanted
        return arrays

    def trees(self, rows: np.ndarray) -> list[Arrays]:
        """Those of the SIDs to score, int64 [n] rows of `space.sids`, at most CHUNK at a time."""
        parts = (SidTree.of(self.tables.paths_of(rows[i : i + CHUNK])) for i in range(0, len(rows), CHUNK))
        return [{name: getattr(tree, name).numpy() for name in SID_TREE_INPUTS} for tree in parts]
