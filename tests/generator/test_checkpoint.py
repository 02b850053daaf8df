"""An `lm` generator that starts from somebody's Qwen2 checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, Qwen2Config, Qwen2ForCausalLM

from genrecall.config.generator import GeneratorSection
from genrecall.decoding import Generator
from genrecall.decoding.config import Vocabulary
from genrecall.decoding.tables import ConstraintTables
from genrecall.errors import UserError
from tests.generator.shop import TINY, Train, catalogue
from trainer.generator.lm_model import SidLanguageModel, load_checkpoint, train_tokenizer


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A Qwen2 with more rows than its tokenizer has ids, as Qwen2.5 has."""
    tokenizer = train_tokenizer(["red shoe", "blue lamp"] * 9, 300)
    config = Qwen2Config(
        vocab_size=len(tokenizer) + 9,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=request.param,
    )
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).save_pretrained(tmp_path / "checkpoint")
    tokenizer.save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def section(checkpoint: Path) -> GeneratorSection:
    stage = TINY.lm.item_stage.model_copy(update={"steps": 4, "evaluate_every": 2})
    changes = {"checkpoint": str(checkpoint), "item_stage": stage, "query_stage": stage}
    return TINY.model_copy(update={"kind": "lm", "lm": TINY.lm.model_copy(update=changes)})


def test_a_checkpoint_is_trained_and_served_with_its_own_tokenizer(
    train: Train, tmp_path: Path, checkpoint: Path
) -> None:
    metrics = train(tmp_path, section(checkpoint))
    assert metrics["stages"]["query"]["steps"] == 4
    generator = Generator.load(tmp_path / "generator", catalogue()[2])
    assert generator.name == "lm-1x16"
    assert generator.generate(["red shoe"], k=48).valid.all()


def test_known_rows_stay_and_every_row_of_ours_is_new(checkpoint: Path) -> None:
    space = catalogue()[2]
    model, tokenizer = load_checkpoint(checkpoint)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    vocabulary = Vocabulary(len(tokenizer), space.level_sizes)
    model.prepare(vocabulary, ConstraintTables.build(space), dropout=0.0)
    assert isinstance(model, SidLanguageModel)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        after = model.state_dict()[name]
        assert after.shape[0] == vocabulary.size == vocabulary.base + 2 + 4 + 4 + 3
        assert torch.equal(after[: vocabulary.base], before[name][: vocabulary.base])
        ours = after[vocabulary.base :]
        assert len(torch.unique(ours, dim=0)) == len(ours)
        assert not any(torch.equal(row, old) for row in ours for old in before[name][vocabulary.base :])


def test_another_architecture_is_refused(train: Train, tmp_path: Path) -> None:
    BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(UserError, match="is a bert: name a Qwen2-family checkpoint"):
        train(tmp_path, section(tmp_path / "bert"))
