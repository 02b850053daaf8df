"""configs/paper.yaml runs as it is, but for what it is trained on and how long: all its stages, on a CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from benchmarks.gpu.parts.shop import random_encoder
from genrecall.config import Config, load
from genrecall.config.data import DataSection
from genrecall.data.readers import read_dataset
from genrecall.decoding import Generator
from genrecall.evaluation.training import train_run
from simulation import synthesize
from simulation.config import ShopSection
from trainer.generator.lm_model import train_tokenizer

ROOT = Path(__file__).parents[2]
STEPS = 2
STAGES = ("generator.lm.item_stage", "generator.lm.query_stage", "generator.user.stage", "generator.alignment")


def tiny_checkpoint(folder: Path, titles: list[str]) -> Path:
    """A Qwen2 of random weights with its tokenizer, as a published checkpoint lies in a folder."""
    tokenizer = train_tokenizer(titles, 400)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_the_papers_configuration_runs_at_reduced_steps(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    synthesize(ShopSection(items=1000, queries=200, sessions=400), tmp_path / "shop")
    titles = read_dataset(DataSection(folder=tmp_path / "shop")).items["title"].to_pylist()
    random_encoder(tmp_path / "encoder", titles, small=True)
    where = [f"run.{name}_dir={tmp_path / name}" for name in ("runs", "bundles", "cache")]
    inputs = [f"data.folder={tmp_path / 'shop'}", f"encoder.checkpoint={tmp_path / 'encoder'}"]
    inputs.append(f"generator.lm.checkpoint={tiny_checkpoint(tmp_path / 'qwen', titles)}")
    reduced = [f"{stage}.steps={STEPS}" for stage in STAGES]
    reduced += ["quantizer.cq_sid.epochs=1", "quantizer.cq_sid.warmup_epochs=1"]
    reduced += ["generator.alignment.batch=16", "generator.dev.max_queries=20", "generator.dev.beam_width=10"]
    config = load(Config, ROOT / "configs/paper.yaml", ["run.device=cpu", *where, *inputs, *reduced])

    made = train_run(config)
    stages = made.manifest["metrics"]["candidates"]["cq_sid"]["generator"]["stages"]
    assert {name: stage["steps"] for name, stage in stages.items()} == dict.fromkeys(
        ("item", "query", "user", "alignment"), STEPS
    )
    assert made.space.level_sizes[:2] == (2048, 1024)
    found = Generator.load(made.generator_dir, made.space).generate(["red shoes"], k=5)
    assert found.valid.all()
    assert (np.diff(found.scores[0]) <= 0).all()
