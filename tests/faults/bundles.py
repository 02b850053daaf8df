"""A bundle with a generator of random weights: it starts at once, and a call for many SIDs takes it a while."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import Qwen2Config, Qwen2ForCausalLM

from genrecall import bundle
from genrecall.decoding.config import GeneratorConfig, Vocabulary, space_fingerprint
from genrecall.decoding.user import UserConfig
from genrecall.sid import SidSpace

LEVEL_SIZES = (16, 16, 16)
WORDS = {"[UNK]": 0, "red": 1, "blue": 2, "shoes": 3, "lamp": 4}


def publish(root: Path, codebook: str = "v1", seed: int = 0, user: UserConfig | None = None) -> bundle.Bundle:
    """`root/codebook` with 2,000 items and an `lm` of two layers, 32 wide, that knows of users what `user` says."""
    codes = np.random.default_rng(seed).integers(0, LEVEL_SIZES, (2000, 3))
    contents = bundle.Contents([f"item-{n}" for n in range(len(codes))], codes, LEVEL_SIZES, kind="lm")
    space = SidSpace.of(codes, LEVEL_SIZES)
    return bundle.publish(
        root, codebook, contents, lambda folder: _write_generator(folder / bundle.GENERATOR, space, seed, user)
    )


def _write_generator(folder: Path, space: SidSpace, seed: int, user: UserConfig | None) -> None:
    torch.manual_seed(seed)
    vocabulary = Vocabulary(len(WORDS), space.level_sizes, len(user.profiles) if user else 0)
    config = Qwen2Config(
        vocab_size=vocabulary.size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        initializer_range=0.3,  # clear preferences, so that an answer that changes is seen to change
    )
    block = GeneratorConfig(
        kind="lm",
        level_sizes=space.level_sizes,
        base=vocabulary.base,
        normalizer="children",
        prior=False,
        max_tokens=32,
        space=space_fingerprint(space),
        lowercase=True,
        user=user,
    )
    config.genrecall = block.write()
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
