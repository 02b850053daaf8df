"""Small random generators for the tests: weights by Hugging Face, the search by us."""

from __future__ import annotations

import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from genrecall.decoding.decoder import Decoder, DecoderConfig
from genrecall.decoding.dense_prior import DensePrior
from genrecall.decoding.heads import LevelHeads, Normalizer
from genrecall.decoding.search import Prefix, beam_search
from genrecall.decoding.tables import ConstraintTables, Representation
from genrecall.sid import SidSpace

TEXT_TOKENS = 17
RANGES: tuple[Representation, Representation, Representation] = ("ranges", "ranges", "ranges")


def random_space(seed: int, sizes: tuple[int, int, int], sids: int) -> SidSpace:
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, k, sids) for k in sizes], axis=1)
    return SidSpace.of(codes, sizes)


def random_lm(
    space: SidSpace,
    seed: int,
    layers: int = 2,
    heads: int = 4,
    kv_heads: int = 2,
    tied: bool = True,
    spread: float = 0.3,
) -> Qwen2ForCausalLM:
    """A Qwen2 whose vocabulary is TEXT_TOKENS, then the levels; `spread` large enough for clear preferences."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=TEXT_TOKENS + sum(space.level_sizes),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=128,
        tie_word_embeddings=tied,
        initializer_range=spread,
        pad_token_id=0,
        eos_token_id=None,
        bos_token_id=None,
    )
    model = Qwen2ForCausalLM(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=spread)
    return model


def offsets(space: SidSpace) -> tuple[int, int, int]:
    k1, k2, _ = space.level_sizes
    return TEXT_TOKENS, TEXT_TOKENS + k1, TEXT_TOKENS + k1 + k2


def lean(model: Qwen2ForCausalLM) -> Decoder:
    decoder = Decoder(DecoderConfig.read(model.config.to_dict()))
    decoder.load_state_dict(model.model.state_dict())
    return decoder.eval()


def search(
    model: Qwen2ForCausalLM,
    space: SidSpace,
    prefix: Prefix,
    width: int,
    normalizer: Normalizer = "children",
    prior: DensePrior | None = None,
    representations: tuple[Representation, Representation, Representation] = RANGES,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Our search over `model`: codes [B, W, 3], scores and valid [B, W]."""
    heads = LevelHeads(model.lm_head.weight, offsets(space), space.level_sizes, normalizer, prior)
    with torch.no_grad():
        tables = ConstraintTables.build(space, representations=representations)
        beams = beam_search(lean(model), heads, tables, prefix, width)
    return space.sids[beams.sid.numpy()], beams.scores.numpy(), beams.valid.numpy()


def padded_prompts(lengths: list[int], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random left-padded token ids [B, S] and their mask."""
    rng = np.random.default_rng(seed)
    ids = np.zeros((len(lengths), max(lengths)), dtype=np.int64)
    mask = np.zeros_like(ids, dtype=bool)
    for row, length in enumerate(lengths):
        ids[row, -length:] = rng.integers(1, TEXT_TOKENS, length)
        mask[row, -length:] = True
    return torch.from_numpy(ids), torch.from_numpy(mask)
