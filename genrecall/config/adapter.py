"""The query adapter: what it is trained with. Shared by the evaluation (its control) and the generator."""

from pydantic import Field

from genrecall.config.base import Section


class AdapterSection(Section):
    """A residual MLP on the frozen query vector, trained on what the generator is trained on."""

    hidden: int = Field(768, ge=1)
    batch: int = Field(128, ge=2)
    random_items: int = Field(2048, ge=0, description="negatives drawn from the catalogue, besides those of the batch")
    temperature: float = Field(0.05, gt=0)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    max_steps: int = Field(600, ge=1)
    check_every: int = Field(20, ge=1, description="steps between evaluations on dev")
    patience: int = Field(6, ge=1, description="evaluations on dev without a gain before training stops")
