"""A trained generator, loaded from a bundle: texts -> the likeliest SIDs, or the log-probabilities of given ones.

Owns how the parts go together. Texts become prompts (`request_tokenizer`), prompts a prefix (`prefix_embedder`, one a
kind), and one search serves both kinds. Needs torch, NumPy and transformers alone. The files are those of `config`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from genrecall.decoding.adapter import QueryAdapter
from genrecall.decoding.config import (
    CONFIG,
    ENCODER,
    EVIDENCE,
    WEIGHTS,
    GeneratorConfig,
    check_space,
    read_evidence,
    read_folder,
)
from genrecall.decoding.decoder import Decoder, DecoderConfig
from genrecall.decoding.dense_prior import DensePrior
from genrecall.decoding.evidence import Evidence
from genrecall.decoding.heads import LevelHeads
from genrecall.decoding.memory import Memory
from genrecall.decoding.prefix_embedder import EncoderPrefixEmbedder, TokenPrefixEmbedder
from genrecall.decoding.request_tokenizer import RequestTokenizer, TokenizedPrompt
from genrecall.decoding.score import CHUNK, SidTree, mixed_score
from genrecall.decoding.search import MIN_VALID_SCORE, Beams, DecodeState, Prefix, beam_search
from genrecall.decoding.tables import MASK_BYTES, ConstraintTables, choose
from genrecall.decoding.text_encoder import TextEncoder
from genrecall.decoding.user import User, UserConfig
from genrecall.decoding.user_prefix import UserPrefix, Users, select
from genrecall.errors import UserError
from genrecall.sid import LEVELS, SidSpace

Find = Callable[[Prefix, int], Beams]
Upload = Callable[[Sequence[np.ndarray]], list[Tensor]]
BATCH = 32  # texts searched at once; longer calls are cut, which bounds memory


@dataclass(frozen=True)
class GeneratedSids:
    """The SIDs of B texts, k each, as NumPy arrays.

    Attributes:
        codes: int32 [B, k, 3]; zeros where not valid.
        scores: float32 [B, k], log p(SID), descending; -inf where not valid.
        valid: bool [B, k]: False behind the last SID that the search found.
    """

    codes: np.ndarray
    scores: np.ndarray
    valid: np.ndarray

    @classmethod
    def of(cls, space: SidSpace, sid: np.ndarray, score: np.ndarray, k: int) -> GeneratedSids:
        """From beams: int64 rows of `space.sids` and float32 scores [B, at most k]; padded to k."""
        batch, width = sid.shape
        out = cls(
            np.zeros((batch, k, LEVELS), dtype=np.int32),
            np.full((batch, k), -np.inf, dtype=np.float32),
            np.zeros((batch, k), dtype=bool),
        )
        valid = score > MIN_VALID_SCORE
        out.valid[:, :width] = valid
        out.codes[:, :width] = np.where(valid[..., None], space.sids[sid], 0)
        out.scores[:, :width] = np.where(valid, score, -np.inf)
        return out


class Generator:
    """Tokenizer, prefix embedder, decoder, heads, evidence and constraint tables of one codebook. Stateless between
    calls.

    Attributes:
        upload: copies the arrays of a batch to the device; an engine may have a faster way.
    """

    def __init__(
        self,
        request_tokenizer: RequestTokenizer,
        prefix_embedder: TokenPrefixEmbedder | EncoderPrefixEmbedder,
        decoder: Decoder,
        heads: LevelHeads,
        tables: ConstraintTables,
        evidence: Evidence | None = None,
    ) -> None:
        self.evidence = evidence
        self.request_tokenizer = request_tokenizer
        self.prefix_embedder = prefix_embedder
        self.decoder = decoder
        self.heads = heads
        self.tables = tables
        self.upload: Upload = lambda arrays: [torch.from_numpy(array).to(self.device) for array in arrays]

    @property
    def kind(self) -> str:
        return self.request_tokenizer.config.kind

    @property
    def user(self) -> UserConfig | None:
        return self.request_tokenizer.config.user

    @property
    def space(self) -> SidSpace:
        return self.request_tokenizer.space

    @property
    def dim(self) -> int:
        """Hidden size of the decoder."""
        return self.decoder.config.hidden_size

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.decoder.config.num_hidden_layers}x{self.dim}"

    @property
    def device(self) -> torch.device:
        return self.decoder.norm.weight.device

    @cached_property
    def tokens(self) -> Tensor:
        """int64 [n, 3], the vocabulary rows of the codes of each SID."""
        return self.tables.sids + torch.tensor(self.heads.offsets, device=self.device)

    @classmethod
    def load(
        cls,
        folder: Path,
        space: SidSpace,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Generator:
        """Read a bundle's `generator/` for the SIDs of the same bundle.

        Args:
            dtype: of the weights; scores are float32 and the dense prior computes in float32 whatever it is.

        Raises UserError for a folder that is not a generator's, or belongs to another codebook.
        """
        parsed, weights = read_folder(folder)
        config, shape = GeneratorConfig.read(parsed, folder / CONFIG), DecoderConfig.read(parsed)
        check_space(config, space, folder)
        request_tokenizer = RequestTokenizer.load(folder, config, space)
        with torch.device("meta"):
            decoder = Decoder(shape)
        body = {key.removeprefix("model."): w.to(dtype) for key, w in weights.items() if key.startswith("model.")}
        _assign(decoder, body, folder)
        tied = "lm_head.weight" not in weights
        head = decoder.embed_tokens.weight if tied else nn.Parameter(weights["lm_head.weight"].to(dtype))
        prior = _read_prior(weights, shape.hidden_size, folder) if config.prior else None
        heads = LevelHeads(head, config.offsets, config.level_sizes, config.normalizer, prior)
        prefix_embedder: TokenPrefixEmbedder | EncoderPrefixEmbedder = TokenPrefixEmbedder(decoder.embed_tokens)
        if config.kind == "encoder":
            projection = nn.Linear(weights["projection.weight"].shape[1], shape.hidden_size, dtype=dtype)
            _assign(projection, {k: weights[f"projection.{k}"].to(dtype) for k in ("weight", "bias")}, folder)
            profiles = len(config.user.profiles) if config.user else 0
            user = _read_user(weights, profiles, shape.hidden_size, dtype, folder) if config.user else None
            encoder = TextEncoder.load(folder / ENCODER, config.max_tokens, device, dtype=dtype)
            prefix_embedder = EncoderPrefixEmbedder(encoder, projection, user, decoder.embed_tokens, prior)
        evidence = load_evidence(folder) if config.evidence else None
        for module in (prefix_embedder, decoder, heads, evidence):
            if module is not None:
                module.to(device).eval().requires_grad_(False)
        tables = ConstraintTables.build(space, device, choose(space, 0 if config.per_sid else MASK_BYTES))
        return cls(request_tokenizer, prefix_embedder, decoder, heads, tables, evidence)

    def generate(
        self, texts: Sequence[str], k: int, beam_width: int | None = None, users: Sequence[User | None] | None = None
    ) -> GeneratedSids:
        """The `k` likeliest SIDs of each text that a beam of `beam_width` (default: k) finds.

        users: one a text, None where the user is unknown. A generator without stage 3 ignores them.
        Raises ValueError for k < 1, a beam narrower than k, or another number of users than texts.
        """
        width = k if beam_width is None else beam_width
        if k < 1:
            raise ValueError(f"k is {k}: ask for at least one SID")
        if width < k:
            raise ValueError(f"beam_width is {width}, but k is {k}: widen the beam or lower k")
        if users is not None and len(users) != len(texts):
            raise ValueError(
                f"{len(users)} users for {len(texts)} texts: give one a text, None where the user is unknown"
            )
        prompts = self.request_tokenizer(texts, users)
        parts = [self.search(prompts[i : i + BATCH], width) for i in range(0, len(prompts), BATCH)]
        if not parts:
            return GeneratedSids.of(self.space, np.zeros((0, 0), np.int64), np.zeros((0, 0), np.float32), k)
        return GeneratedSids(
            np.concatenate([p.codes[:, :k] for p in parts]),
            np.concatenate([p.scores[:, :k] for p in parts]),
            np.concatenate([p.valid[:, :k] for p in parts]),
        )

    @torch.inference_mode()
    def search(self, prompts: Sequence[TokenizedPrompt], width: int, find: Find | None = None) -> GeneratedSids:
        """The `width` likeliest SIDs of each prompt, in one batch. find: replaces `beam_search`."""
        beam_width = min(width, len(self.space))  # a wider beam finds nothing more
        prefix = self.prefix(prompts)
        if find is None:
            beams = beam_search(self.decoder, self.heads, self.tables, prefix, beam_width)
        else:
            beams = find(prefix, beam_width)
        return GeneratedSids.of(self.space, beams.sid.cpu().numpy(), beams.scores.cpu().numpy(), width)

    @torch.inference_mode()
    def score(self, prompt: TokenizedPrompt, rows: np.ndarray) -> np.ndarray:
        """float32 [n]: log p of the SIDs of int64 [n] rows of `space.sids`, for one prompt."""
        prefix = self.prefix([prompt])
        state = DecodeState.prefill(self.decoder, prefix) if prefix.asks_decoder else None
        out = np.empty(len(rows), dtype=np.float32)
        order = np.argsort(rows, kind="stable")  # neighbours share their beginnings
        for part in np.split(order, range(CHUNK, len(order), CHUNK)) if len(order) else []:
            tree = SidTree.of(self.tables.paths_of(rows[part])).to(self.device)
            out[part] = mixed_score(self.heads, self.tables, state, prefix, tree).cpu().numpy()
        return out

    def prefix(self, prompts: Sequence[TokenizedPrompt]) -> Prefix:
        """What the search starts from."""
        if self.user is not None and self.user.related and any(len(p.recent) for p in prompts):
            prompts = self._related(prompts, self.user)
        batch = self.request_tokenizer.batch(prompts)
        ids, mask, recent, profile, terms, gate = self.upload(
            (batch.ids, batch.mask, batch.recent, batch.profile, batch.terms, batch.gate)
        )
        (wanted,) = self.upload((batch.wanted,)) if batch.wanted is not None else (None,)
        users = Users(profile, recent) if any(p.known for p in prompts) else None
        tokens = ids if users is None else self.tokens  # those of all SIDs are large: only where they are read
        prefix = self.prefix_embedder(ids, mask, users, tokens)
        if self.evidence is None:
            return prefix
        return replace(
            prefix,
            evidence=self.evidence(prefix.text, terms, self.tables, wanted),
            gate=gate if any(p.gate for p in prompts) else None,
        )

    def _related(self, prompts: Sequence[TokenizedPrompt], user: UserConfig) -> list[TokenizedPrompt]:
        """The prompts with the newest of those recent SIDs that are related to the query."""
        alone = self.prefix([TokenizedPrompt(p.tokens, terms=p.terms) for p in prompts])
        likely = likely_codes(self.decoder, self.heads, self.tables, alone, user.related)
        recent = torch.from_numpy(self.request_tokenizer.batch(prompts).recent).to(self.device)
        kept = select(recent, self.tables.sids, likely, user.recent).cpu().numpy()
        return [replace(p, recent=row[row >= 0]) for p, row in zip(prompts, kept, strict=True)]


def likely_codes(decoder: Decoder, heads: LevelHeads, tables: ConstraintTables, prefix: Prefix, count: int) -> Tensor:
    """int64 [B, at most count]: the likeliest level-1 codes of each prefix."""
    root = torch.zeros((len(prefix.mask), 1), dtype=torch.int64, device=prefix.mask.device)
    scores = heads(0, DecodeState.prefill(decoder, prefix).state, tables, root, prefix.text)
    best = scores[:, 0].topk(min(count, scores.shape[-1])).indices
    return tables.codes(0, tables.child(0, root.expand_as(best), best))


def load_evidence(folder: Path) -> Evidence:
    """The evidence in a generator's folder. Raises UserError for a file that is missing, damaged or of other arrays."""
    own = read_evidence(folder)
    adapter = {key.removeprefix("adapter."): w.float() for key, w in own.items() if key.startswith("adapter.")}
    module = QueryAdapter(*reversed(adapter["inner.weight"].shape)) if adapter else None
    if module is not None:
        _assign(module, adapter, folder)
    try:
        memory = Memory.load(folder, len(own["log_items"]))
        evidence = Evidence(own if memory is None else with_memory(own, memory), module)
        evidence.weights = nn.Parameter(own["weights"])
    except KeyError as error:
        raise UserError(f"{folder / EVIDENCE} lacks {error}: publish the bundle again") from None
    return evidence


def with_memory(arrays: Mapping[str, Tensor], memory: Memory) -> dict[str, Tensor]:
    """Arrays of evidence in which a remembered query is a term more, number V + 1 + its row, its SIDs the postings.

    The weight of words is taken out of what a SID gains: it is added to a query as it is.
    """
    start, sid = arrays["start"].long(), arrays["sid"]
    gain = torch.from_numpy(memory.boost()) / arrays["weights"][1]
    return {
        **arrays,
        "start": torch.cat([start[:-1], len(sid) + torch.from_numpy(np.asarray(memory.start))]),
        "sid": torch.cat([sid, torch.from_numpy(np.asarray(memory.sid))]),
        "impact": torch.cat([arrays["impact"], gain]),
    }


def _assign(module: nn.Module, weights: Mapping[str, Tensor], folder: Path) -> None:
    try:
        module.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise UserError(f"{folder / WEIGHTS} does not fit its config.json: {error}") from None


def _read_user(
    weights: Mapping[str, Tensor], profiles: int, hidden_size: int, dtype: torch.dtype, folder: Path
) -> UserPrefix:
    own = {key.removeprefix("user."): w.to(dtype) for key, w in weights.items() if key.startswith("user.")}
    with torch.device("meta"):
        user = UserPrefix(profiles, hidden_size, own["vector.weight"].shape[1] if "vector.weight" in own else None)
    _assign(user, own, folder)
    return user


def _read_prior(weights: Mapping[str, Tensor], hidden_size: int, folder: Path) -> DensePrior:
    own = {key.removeprefix("prior."): w.float() for key, w in weights.items() if key.startswith("prior.")}
    shapes = [own[f"vectors_{level}"].shape for level in range(LEVELS)]
    with torch.device("meta"):
        prior = DensePrior((shapes[0][0], shapes[1][0], shapes[2][0]), shapes[0][1], hidden_size)
    _assign(prior, own, folder)
    return prior
