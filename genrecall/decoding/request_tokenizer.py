"""Queries and users -> token ids and rows of SIDs: what a batch is made of, before any weight is touched.

Owns the one batch layout that every engine reads (`PromptBatch`). Needs NumPy and a tokenizer alone, so a process that
only receives requests can do it. Kind `lm` writes the user into the prompt; `encoder` passes the user beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from genrecall import files
from genrecall.analyzer import NAME, Analyzer
from genrecall.decoding.config import ENCODER, EVIDENCE, EvidenceConfig, GeneratorConfig, Marker, Vocabulary
from genrecall.decoding.lexical import Lexicon
from genrecall.decoding.memory import Memory
from genrecall.decoding.user import FIELDS, User
from genrecall.encoder_layout import read_prefixes
from genrecall.errors import UserError
from genrecall.sid import LEVELS, SidSpace

UNKNOWN = 0.05  # share of tokens that a tokenizer may not know before it is told
_UNKNOWN_PROFILE = np.full(len(FIELDS), -1, dtype=np.int64)
_NO_SIDS = np.empty(0, dtype=np.int64)
_NO_TERMS = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class TokenizedPrompt:
    """One query.

    Attributes:
        tokens: the query's ids, for the decoder (`lm`) or the sentence encoder (`encoder`).
        recent: int64 [h], rows of `SidSpace.sids` that the user was last interested in, newest first.
        profile: int64 [2], positions in `UserConfig.profiles` of gender and age band, -1 where unknown.
        terms: int64 [t], the query's known words (`Lexicon`), last the query itself where it is remembered (`Memory`),
            and gate: the decoder's share (`Gates`); read where the generator has evidence.
    """

    tokens: Sequence[int]
    recent: np.ndarray = field(default_factory=lambda: _NO_SIDS)
    profile: np.ndarray = field(default_factory=lambda: _UNKNOWN_PROFILE)
    terms: np.ndarray = field(default_factory=lambda: _NO_TERMS)
    gate: float = 0.0

    @property
    def known(self) -> bool:
        """Whether anything is known of the user."""
        return bool(len(self.recent) or (self.profile >= 0).any())


@dataclass(frozen=True)
class PromptBatch:
    """B prompts, padded.

    Attributes:
        ids: int64 [B, S]; mask: bool [B, S], False where padded: on the left for `lm`, on the right for `encoder`.
        recent: int64 [B, H >= 1], -1 where there is none, and profile: int64 [B, 2]; `encoder` alone reads them.
        terms: int64 [B, T >= 1], padded with the number of a term without SIDs, and gate: float32 [B]; read where the
            generator has evidence.
        wanted: float32 [B, dim], of `encoder`, what the memory adds to the queries' vectors; None where nothing is
            remembered.
    """

    ids: np.ndarray
    mask: np.ndarray
    recent: np.ndarray
    profile: np.ndarray
    terms: np.ndarray
    gate: np.ndarray
    wanted: np.ndarray | None = None


class RequestTokenizer:
    """Made from the generator's folder; safe to call from any thread.

    Args:
        tokenize: texts -> ids.
        padding: the id that fills the rest of an `encoder` row.
        lexicon: where the generator has evidence.
        memory: where it remembers queries; vectors: [n, dim], mean vectors of the SIDs' items, of `encoder`.
    """

    def __init__(
        self,
        tokenize: Callable[[Sequence[str]], list[list[int]]],
        config: GeneratorConfig,
        space: SidSpace,
        padding: int = 0,
        lexicon: Lexicon | None = None,
        memory: Memory | None = None,
        vectors: np.ndarray | None = None,
    ) -> None:
        self.config = config
        self.lexicon = lexicon
        self.memory = memory
        self._vectors = vectors
        self.space = space
        self._tokenize = tokenize
        self._padding = padding
        self._profiles = {name: n for n, name in enumerate(config.user.profiles)} if config.user else {}

    @classmethod
    def load(cls, folder: Path, config: GeneratorConfig, space: SidSpace) -> RequestTokenizer:
        """Reads tokenizer.json. Raises UserError for a missing file or an unknown kind."""
        lexicon = load_lexicon(folder, config.evidence) if config.evidence else None
        memory = Memory.load(folder, len(space)) if config.evidence else None
        if config.kind == "lm":
            template = PromptTemplate.load(folder, config.vocabulary, config.max_tokens, config.lowercase)
            return cls(lambda texts: template.ids(texts, "query"), config, space, lexicon=lexicon, memory=memory)
        if config.kind == "encoder":
            tokenizer = encoder_tokenizer(folder / ENCODER, config.max_tokens)
            padding = (tokenizer.padding or {}).get("pad_id", 0)
            tokenizer.no_padding()

            prefix = read_prefixes(folder / ENCODER).query

            def tokenize(texts: Sequence[str]) -> list[list[int]]:
                return [e.ids for e in tokenizer.encode_batch([prefix + text for text in texts])]

            vectors = files.mapped(folder / EVIDENCE, ("vectors",))["vectors"] if memory else None
            return cls(tokenize, config, space, padding, lexicon, memory, vectors)
        raise UserError(f"{folder}: kind {config.kind!r} is unknown: use 'lm' or 'encoder'")

    def __call__(
        self,
        texts: Sequence[str],
        users: Sequence[User | None] | None = None,
        remember: Sequence[bool] | None = None,
    ) -> list[TokenizedPrompt]:
        """One prompt a text. Users are ignored without stage 3; unknown profile values and SIDs are dropped.

        remember: for each text, whether what people wanted for it before counts; None: it does.
        """
        prompts = [TokenizedPrompt(tokens) for tokens in self._tokenize(texts)]
        if users is not None and self.config.user is not None:
            prompts = [self._with_user(prompt, user) for prompt, user in zip(prompts, users, strict=True)]
        if self.lexicon is not None:
            each = zip(prompts, texts, remember or [True] * len(texts), strict=True)
            prompts = [self._with_terms(*one) for one in each]
        return prompts

    @property
    def max_length(self) -> int:
        """Tokens of the longest prompt that the model reads."""
        user = self.config.user if self.config.kind == "lm" else None
        return self.config.max_tokens + (LEVELS * user.recent + len(FIELDS) if user else 0)

    def length(self, prompt: TokenizedPrompt) -> int:
        """Tokens that the model reads of it."""
        return len(prompt.tokens) + len(self._user_tokens(prompt))

    def batch(self, prompts: Sequence[TokenizedPrompt]) -> PromptBatch:
        """The arrays of one prompt at least."""
        recent = np.full((len(prompts), max(1, *(len(p.recent) for p in prompts))), -1, dtype=np.int64)
        for row, prompt in enumerate(prompts):
            recent[row, : len(prompt.recent)] = prompt.recent
        profile = np.stack([p.profile for p in prompts])
        if self.config.kind == "lm":
            ids, mask = pad([[*self._user_tokens(p), *p.tokens] for p in prompts], side="left")
        else:
            ids, mask = pad([p.tokens for p in prompts], self._padding)
        terms, _ = pad([p.terms for p in prompts], self._no_term, least=1)
        gate, wanted = np.array([p.gate for p in prompts], np.float32), None
        if self.memory is not None and self._vectors is not None:
            remembered = [int(p.terms[-1]) - self._no_term - 1 if len(p.terms) else -1 for p in prompts]
            if max(remembered) >= 0:
                wanted = self.memory.wanted(remembered, self._vectors)
        return PromptBatch(ids, mask, recent, profile, terms, gate, wanted)

    @property
    def _no_term(self) -> int:
        return 0 if self.lexicon is None else len(self.lexicon.term)

    def _with_terms(self, prompt: TokenizedPrompt, text: str, remember: bool) -> TokenizedPrompt:
        assert self.lexicon is not None
        assert self.config.evidence is not None
        terms, query, familiar = self.lexicon(text)
        gates = self.config.evidence.gates
        gate = gates.user if prompt.known else gates.familiar if familiar else gates.new
        row = self.memory.row(query) if self.memory is not None and remember and query is not None else -1
        if row >= 0:  # a remembered query is a term of its own: `with_memory`
            terms = np.append(terms, self._no_term + 1 + row)
        return replace(prompt, terms=terms, gate=gate)

    def _with_user(self, prompt: TokenizedPrompt, user: User | None) -> TokenizedPrompt:
        if user is None:
            return prompt
        config = self.config.user
        assert config is not None
        rows = self.space.index_of(user.recent) if len(user.recent) else _NO_SIDS
        rows = rows[rows >= 0]
        if not config.related:  # otherwise the generator chooses among all of them
            rows = rows[: config.recent]
        profile = np.array([self._profiles.get(f"{name}={getattr(user, name)}", -1) for name in FIELDS])
        return replace(prompt, recent=rows, profile=profile)

    def _user_tokens(self, prompt: TokenizedPrompt) -> list[int]:
        """Of kind `lm`."""
        if self.config.kind != "lm" or not prompt.known:
            return []
        tokens = self.space.sids[prompt.recent].astype(np.int64) + np.array(self.config.offsets)
        rows = np.arange(len(tokens))[None]
        return user_tokens(rows, prompt.profile[None], tokens, self.config.vocabulary.first_profile)[0]


class PromptTemplate:
    """Prompts of kind `lm`: text tokens, then a marker that says what the text is and asks for its SID.

    Args:
        tokenizer: a `tokenizers.Tokenizer`.
        max_tokens: prompts are cut to it, the marker included (the start of the text is kept).
        lowercase: whether the tokenizer was trained on lower-cased text.
    """

    def __init__(self, tokenizer: Any, vocabulary: Vocabulary, max_tokens: int, lowercase: bool) -> None:
        self.tokenizer = tokenizer
        self.vocabulary = vocabulary
        self.max_tokens = max_tokens
        self.lowercase = lowercase
        self.tokenizer.encode_special_tokens = True  # a control token written in a query is read as text

    @classmethod
    def load(cls, folder: Path, vocabulary: Vocabulary, max_tokens: int, lowercase: bool) -> PromptTemplate:
        """From `folder/tokenizer.json`; UserError where it is missing."""
        return cls(_read_tokenizer(folder, "a generator of kind lm"), vocabulary, max_tokens, lowercase)

    def ids(self, texts: Sequence[str], marker: Marker) -> list[list[int]]:
        """Token ids of each prompt, 1 to max_tokens of them."""
        written = [text.lower() if self.lowercase else text for text in texts]
        encoded = self.tokenizer.encode_batch_fast(written, add_special_tokens=False)
        return [[*e.ids[: self.max_tokens - 1], self.vocabulary.marker(marker)] for e in encoded]


def user_tokens(recent: np.ndarray, profile: np.ndarray, tokens: np.ndarray, first_profile: int) -> list[list[int]]:
    """What stands before each query's text: three tokens a recent SID, oldest first, then one a known profile value.

    Args:
        recent: int64 [B, H] rows of SIDs, newest first, -1 where there is none; profile: int64 [B, 2], -1 if unknown.
        tokens: int64 [n, 3], the vocabulary rows of the codes of each SID.
    """
    return [
        [*tokens[past[past >= 0][::-1]].ravel().tolist(), *(first_profile + who[who >= 0]).tolist()]
        for past, who in zip(recent, profile, strict=True)
    ]


def pad(
    ids: Sequence[Sequence[int] | np.ndarray],
    padding: int = 0,
    side: Literal["left", "right"] = "right",
    least: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Ids int64 [B, longest], filled up with `padding` at `side`, and the mask bool of what is no padding.

    least: columns, even where every row is shorter.
    """
    lengths = np.array([len(row) for row in ids])
    columns = max(least, int(lengths.max()))
    column = np.arange(columns)
    mask = column < lengths[:, None] if side == "right" else column >= columns - lengths[:, None]
    out = np.full(mask.shape, padding, dtype=np.int64)
    out[mask] = [token for row in ids for token in row]
    return out, mask


def load_lexicon(folder: Path, config: EvidenceConfig) -> Lexicon:
    """The look-up of terms, its arrays mapped into memory. Raises UserError for an analyzer of another version."""
    if config.analyzer != NAME:
        raise UserError(
            f"{folder} was trained with the analyzer {config.analyzer!r}, this version has {NAME!r}: serve it with the "
            "version that trained it, or train again"
        )
    return Lexicon.of(Analyzer(config.language), files.mapped(folder / EVIDENCE, ("term", "start", "query")))


def encoder_tokenizer(folder: Path, max_tokens: int) -> Any:
    """The tokenizer of a sentence encoder that was saved in `folder`: texts -> at most `max_tokens` ids each."""
    tokenizer = _read_tokenizer(folder, "a sentence encoder")
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def unknown_share(folder: Path, texts: Sequence[str]) -> float:
    """The share of the tokens of texts that the tokenizer in `folder` does not know; 0.0 for one without such a token.

    Raises UserError where there is no tokenizer.
    """
    tokenizer = _read_tokenizer(folder, "the encoder")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    unknown = {tokenizer.token_to_id(token) for token in ("[UNK]", "<unk>", "<|unk|>")} - {None}
    ids = [one for encoded in tokenizer.encode_batch(list(texts), add_special_tokens=False) for one in encoded.ids]
    return sum(one in unknown for one in ids) / len(ids) if ids else 0.0


def unknown_note(folder: Path, texts: Sequence[str], what: str) -> str:
    """A warning where the tokenizer does not know more than UNKNOWN of the tokens of texts, else ""."""
    share = unknown_share(folder, texts)
    if share <= UNKNOWN:
        return ""
    return (
        f"the encoder does not know {share:.0%} of the tokens of {what}: it was made for other scripts, and tells "
        "these texts hardly apart. Name a multilingual one in encoder.checkpoint"
    )


def _read_tokenizer(folder: Path, owner: str) -> Any:
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"{path} does not exist: {owner} needs its tokenizer, publish the bundle again")
    return Tokenizer.from_file(str(path))
