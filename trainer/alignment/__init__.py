"""EG-GRPO: the generator aligned with what people buy, by rollouts, rewards from the logs, and injected experts."""

from trainer.alignment.stage import align

__all__ = ["align"]
