"""Our objective against TRL's, on the same model, tokens, advantages and reference: the loss, the KL, the gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM

from genrecall.decoding.heads import LevelHeads
from genrecall.decoding.search import Prefix
from genrecall.decoding.tables import ConstraintTables
from genrecall.sid import SidSpace
from tests.decoding.models import offsets, padded_prompts, random_lm, random_space
from trainer.alignment.loss import advantages, objective
from trainer.generator.lm_model import train_tokenizer
from trainer.generator.policy import Policy

GROUP = 4
LENGTHS = [3, 6, 1]
CLIP = 0.15


@pytest.fixture(scope="module")
def space() -> SidSpace:
    return random_space(5, (4, 5, 6), 40)


def policy_of(model: Qwen2ForCausalLM, space: SidSpace) -> Policy:
    """Scores over the whole vocabulary, as TRL has them."""
    heads = LevelHeads(model.lm_head.weight, offsets(space), space.level_sizes, "vocabulary")
    return Policy(model.model, heads, ConstraintTables.build(space), lambda x: x)


def log_probs(model: Qwen2ForCausalLM, space: SidSpace, sid: Tensor) -> Tensor:
    ids, mask = padded_prompts(LENGTHS, seed=2)
    return policy_of(model, space).log_probs(Prefix(model.model.embed_tokens(ids), mask), sid)


def trl(model: Qwen2ForCausalLM, folder: Path, beta: float) -> Any:
    import datasets
    from trl import GRPOConfig, GRPOTrainer

    model.save_pretrained(folder / "model")
    model.config._name_or_path = str(folder / "model")  # TRL reads its reference model from there
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=GRPOConfig(
            output_dir=str(folder),
            per_device_train_batch_size=len(LENGTHS) * GROUP,
            num_generations=GROUP,
            loss_type="grpo",
            epsilon=CLIP,
            beta=beta,
            use_bias_correction_kl=False,
            use_cpu=True,
            bf16=False,
            activation_checkpointing=False,
            report_to="none",
        ),
        train_dataset=datasets.Dataset.from_dict({"prompt": ["red shoe"] * 12}),
        processing_class=train_tokenizer(["red shoe", "blue lamp"] * 9, 300),
    )
    trainer.current_gradient_accumulation_steps = 1
    return trainer


@pytest.mark.parametrize("beta", [0.0, 0.3], ids=["without KL", "with KL"])
def test_loss_kl_and_gradient_are_those_of_trl(space: SidSpace, tmp_path: Path, beta: float) -> None:
    model, old_model, reference = (random_lm(space, seed) for seed in (1, 2, 3))
    old_model.load_state_dict({k: w + 0.02 * torch.randn_like(w) for k, w in model.state_dict().items()})
    sid = torch.randint(0, len(space), (len(LENGTHS), GROUP), generator=torch.Generator().manual_seed(4))
    rewards = torch.tensor([[1.0, 0.5, 0.1, 0.0], [0.1, 0.1, 0.1, 0.1], [0.5, 1.0, 1.0, 0.1]])
    with torch.no_grad():
        old, before = log_probs(old_model, space, sid), log_probs(reference, space, sid)
    ours = objective(log_probs(model, space, sid), old, before, advantages(rewards), beta, CLIP)
    ours.loss.backward()
    gradient = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}

    model.zero_grad()
    ids, mask = padded_prompts(LENGTHS, seed=2)
    codes = torch.from_numpy(space.sids).long()[sid] + torch.tensor(offsets(space))
    oracle = trl(model, tmp_path, beta)
    oracle.model.eval()
    theirs = oracle._compute_loss(
        oracle.model,
        {
            "prompt_ids": ids.repeat_interleave(GROUP, 0),
            "prompt_mask": mask.repeat_interleave(GROUP, 0).long(),
            "completion_ids": codes.flatten(0, 1),
            "completion_mask": torch.ones_like(codes.flatten(0, 1)),
            "advantages": advantages(rewards).flatten(),
            "old_per_token_logps": old.flatten(0, 1),
            "ref_per_token_logps": before.flatten(0, 1),
        },
    )
    theirs.backward()

    assert 0 < ours.clipped < 1, "the case must have ratios on both sides of the clip"
    torch.testing.assert_close(ours.loss, theirs, rtol=1e-5, atol=1e-6)
    if beta:
        assert ours.kl.item() == pytest.approx(oracle._metrics["eval"]["kl"][-1], rel=1e-5)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(gradient[name], weight.grad, rtol=1e-4, atol=1e-5)


def test_advantages_are_those_of_trl(space: SidSpace) -> None:
    """(r - mean) / (std + 1e-4) with the sample's standard deviation, as in TRL's `scale_rewards="group"`."""
    rewards = torch.tensor([[1.0, 0.5, 0.1, 0.0], [0.1, 0.1, 0.1, 0.1]])
    mean, std = rewards.mean(1, keepdim=True), rewards.std(1, keepdim=True)
    torch.testing.assert_close(advantages(rewards), (rewards - mean) / (std + 1e-4))
    assert (advantages(rewards)[1] == 0).all()
