"""The generator: which kind, how large, on what it is trained and for how long."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from genrecall.config.adapter import AdapterSection
from genrecall.config.base import Section

GeneratorKind = Literal["encoder", "lm"]
Steps = Annotated[int, Field(ge=0)] | Literal["auto"]


class DecoderSection(Section):
    """The Qwen2-shaped decoder where it is made from scratch."""

    layers: int = Field(2, ge=1)
    hidden: int = Field(256, ge=8, description="a multiple of heads, each head of even size")
    intermediate: int = Field(512, ge=8)
    heads: int = Field(4, ge=1)
    kv_heads: int = Field(4, ge=1, description="divides heads")
    dropout: float = Field(0.1, ge=0, lt=1)


class SamplingSection(Section):
    """What a batch is drawn from. Synthetic queries are cut from titles, brands and categories."""

    synthetic_per_item: int = Field(3, ge=0, description="synthetic queries made for an item")
    max_synthetic: int = Field(400_000, ge=0, description="items are sampled where the catalogue would give more")
    real_share: float = Field(
        0.5, ge=0, le=1, description="of a batch, where there are real queries; the rest synthetic"
    )
    title_share: float = Field(
        0.25, ge=0, le=1, description="of a batch, where there is no real query; the rest synthetic"
    )
    targets: int = Field(2, ge=1, description="SIDs sampled for a query of a batch, by grade")
    targets_from: Literal["auto", "judgments", "logs"] = Field(
        "auto",
        description="where a query's target items come from; auto: judgments where there are any, else logs",
    )


class StageSection(Section):
    """One stage of training."""

    steps: Steps = Field(
        "auto",
        description="at most; 0 leaves the stage out; auto: ten passes over the pairs of real queries or two over the "
        "synthetic ones, whichever is more, 100 to 2,000",
    )
    batch: int = Field(512, ge=1, description="pairs of a text and a SID a step")
    lr: float = Field(1e-3, gt=0)
    prior_lr: float = Field(2e-2, gt=0, description="of the dense prior's sharpness and size weight")
    warmup_steps: int = Field(50, ge=0)
    weight_decay: float = Field(0.01, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    evaluate_every: int = Field(
        20,
        ge=1,
        description="steps between two evaluations on dev queries, and two checkpoints; with steps=auto at least that "
        "many, and twenty evaluations at most",
    )
    patience: int = Field(
        5, ge=1, description="evaluations without a better recall before the stage ends; the best is kept"
    )


class EvidenceSection(Section):
    """What needs next to no training: the words and the vectors of the items (`genrecall.decoding.evidence`)."""

    enabled: bool = Field(True, description="false: the decoder answers alone")
    language: str = Field(
        "auto",
        description="of the Snowball stemmer; auto: that of the titles. Words of other scripts pass it unchanged",
    )
    query_weight: float = Field(
        3.0, gt=0, description="how often a term of a training query counts for the SIDs that it chose"
    )
    adapter: AdapterSection = AdapterSection()


class MemorySection(Section):
    """What people wanted before for a query, remembered where there is evidence (`genrecall.decoding.memory`)."""

    enabled: bool = Field(True, description="false: queries that come again are treated as new ones")
    least: int = Field(
        5,
        ge=1,
        description="clients that must have wanted something for a query of the logs; judgments count as they are",
    )


class EncoderKindSection(Section):
    """Kind `encoder`: the pooled vector of the frozen sentence encoder is the prefix."""

    prior: bool = Field(
        True, description="the dense prior; leave it out for codes whose prefixes mean nothing among the vectors"
    )
    store: Literal["float32", "float16"] = Field("float16", description="how the bundle keeps the sentence encoder")
    stage: StageSection = StageSection()


class LmKindSection(Section):
    """Kind `lm`: stage 1 learns items -> SIDs, stage 2 queries -> SIDs."""

    checkpoint: str | None = Field(None, description="a Qwen2-family checkpoint (folder or hub id); none: from scratch")
    bpe_size: int = Field(8000, ge=300, description="vocabulary of the tokenizer trained where there is no checkpoint")
    max_tokens: int = Field(32, ge=4, description="of a prompt, the marker included")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the products in training; auto: bfloat16 on CUDA, float32 on a CPU; weights are float32"
    )
    item_stage: StageSection = StageSection(steps=400, batch=128)
    query_stage: StageSection = StageSection(batch=128)


class UserSection(Section):
    """Stage 3: the same with users. It runs where the dataset has logs of users."""

    recent: int = Field(10, ge=0, le=100, description="SIDs of a user's history that the generator reads at most")
    related: int = Field(
        0, ge=0, description="of them only those in the level-1 codes likeliest for the query, this many; 0: all"
    )
    user_dropout: float = Field(
        0.25, ge=0, lt=1, description="share of requests trained on without their user, so that unknown users are met"
    )
    stage: StageSection = StageSection(steps=300, batch=256, patience=3, evaluate_every=50)


class RewardSection(Section):
    """What a SID earns for a request: the first that applies, by the items it holds; no adding."""

    purchased: float = Field(1.0, description="paper 1.0")
    clicked: float = Field(1.0, description="paper 1.0")
    exposed: float = Field(0.5, description="shown and not clicked; paper 0.5")
    valid: float = Field(0.1, description="any other SID that some item has; paper 0.1")


class AlignmentSection(StageSection):
    """Stage 4, EG-GRPO. It runs where the dataset has logs with exposures; details in trainer/alignment/stage.py."""

    steps: Annotated[int, Field(ge=0)] = Field(0, description="at most; 0 leaves the stage out; paper 1,000")
    batch: int = Field(64, ge=1, description="requests a step; paper 512")
    lr: float = Field(1e-4, gt=0, description="paper 1e-6, for a pretrained model of 0.5B")
    prior_lr: float = Field(1e-3, gt=0, description="of the dense prior's sharpness and size weight")
    warmup_steps: int = Field(5, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    group: int = Field(8, ge=2, description="SIDs a request; paper 8")
    experts: int = Field(2, ge=0, description="of them ground truth, K; paper 2; 0 is plain GRPO")
    requests: Literal["clicked", "all"] = Field("clicked", description="those with a click or purchase, or all")
    reward: RewardSection = RewardSection()
    temperature: float = Field(1.0, gt=0, description="of the sampler; paper: not given")
    kl_weight: float = Field(1.0, ge=0, description="of the KL to the model before this stage; paper 1.0")
    keep: Literal["best", "last"] = Field("best", description="weights kept: of the best evaluation, or the last")

    @model_validator(mode="after")
    def _fewer_experts_than_samples(self) -> "AlignmentSection":
        if self.experts >= self.group:
            raise ValueError(f"experts ({self.experts}) must be fewer than group ({self.group})")
        return self


class DevSection(Section):
    """How a generator is evaluated while it is trained."""

    beam_width: int = Field(50, ge=1)
    items: int = Field(50, ge=1, description="recall is taken over this many items")
    order_within: float = Field(
        0.3, ge=0, description="weight of an item's BM25 beside log p of its SID, as in evaluation.order_within"
    )
    max_queries: int = Field(500, ge=1)


class GeneratorSection(Section):
    kind: GeneratorKind = "encoder"
    decoder: DecoderSection = DecoderSection()
    sampling: SamplingSection = SamplingSection()
    evidence: EvidenceSection = EvidenceSection()
    memory: MemorySection = MemorySection()
    encoder: EncoderKindSection = EncoderKindSection()
    lm: LmKindSection = LmKindSection()
    user: UserSection = UserSection()
    alignment: AlignmentSection = AlignmentSection()
    dev: DevSection = DevSection()
