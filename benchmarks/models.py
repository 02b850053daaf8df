"""Random weights of two sizes, and one valid codebook: what the speed benchmarks run on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from genrecall.decoding import Generator
from genrecall.decoding.config import GeneratorConfig, Vocabulary, space_fingerprint
from genrecall.decoding.decoder import Decoder, DecoderConfig
from genrecall.decoding.heads import LevelHeads, Normalizer
from genrecall.decoding.prefix_embedder import TokenPrefixEmbedder
from genrecall.decoding.request_tokenizer import RequestTokenizer
from genrecall.decoding.tables import MASK_BYTES, ConstraintTables, Representation, choose
from genrecall.sid import SidSpace

RANGES: tuple[Representation, Representation, Representation] = ("ranges", "ranges", "ranges")


@dataclass(frozen=True)
class Shape:
    """A decoder's sizes, and those of its vocabulary and codebook."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    text_tokens: int
    level_sizes: tuple[int, int, int]
    sids: int


SHAPES = {
    "small": Shape(2, 256, 512, 4, 4, 8_000, (128, 32, 32), 13_000),
    "0.5b": Shape(24, 896, 4864, 14, 2, 151_936, (2048, 1024, 1024), 1_000_000),  # Qwen2.5-0.5B
}


def random_space(shape: Shape) -> SidSpace:
    rng = np.random.default_rng(0)
    keys = np.unique(rng.integers(0, np.prod(shape.level_sizes), shape.sids + shape.sids // 4))
    keys = np.sort(rng.permutation(keys)[: shape.sids])
    return SidSpace(shape.level_sizes, np.stack(np.unravel_index(keys, shape.level_sizes), axis=1).astype(np.int32))


def random_model(shape: Shape, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Qwen2ForCausalLM:
    """Hugging Face's model; weights large enough that beams differ. Made where it is used: it is fast on a GPU."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=Vocabulary(shape.text_tokens, shape.level_sizes).size,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        tie_word_embeddings=True,
        initializer_range=0.1 if shape.layers < 8 else 0.04,
        pad_token_id=0,
        eos_token_id=None,
        bos_token_id=None,
    )
    with torch.device(device):
        model = Qwen2ForCausalLM(config).eval()
    return model if dtype == torch.float32 else model.to(dtype)


def build_generator(
    model: Qwen2ForCausalLM, space: SidSpace, normalizer: Normalizer, served: bool = False
) -> Generator:
    """genrecall's generator over the same weights. A "text" is its token ids in decimal, separated by blanks; any other
    word is read as its length.

    served: constraint tables as a server has them, not ranges alone.
    """
    config = GeneratorConfig(
        "lm",
        space.level_sizes,
        model.config.vocab_size - sum(space.level_sizes) - 2,
        normalizer,
        False,
        1024,
        space_fingerprint(space),
    )

    def tokenize(texts: Sequence[str]) -> list[list[int]]:
        return [[int(word) if word.isdigit() else len(word) for word in text.split()] for text in texts]

    request_tokenizer = RequestTokenizer(tokenize, config, space)
    with torch.device("meta"):
        decoder = Decoder(DecoderConfig.read(model.config.to_dict()))
    decoder.load_state_dict(model.model.state_dict(), assign=True)
    device = decoder.embed_tokens.weight.device
    heads = LevelHeads(decoder.embed_tokens.weight, config.offsets, space.level_sizes, normalizer)
    for module in (decoder, heads):
        module.eval().requires_grad_(False)
    tables = ConstraintTables.build(space, device, choose(space, MASK_BYTES) if served else RANGES)
    return Generator(request_tokenizer, TokenPrefixEmbedder(decoder.embed_tokens), decoder, heads, tables)
