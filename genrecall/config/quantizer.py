"""The quantizer: how items become SIDs. Defaults suit a catalogue of thousands; the paper's values stand beside."""

from typing import Annotated, Literal

from pydantic import Field

from genrecall.config.base import Section

QuantizerKind = Literal["cq_sid", "hierarchical"]
Size = Annotated[int, Field(ge=1)] | Literal["auto"]


class CqSidSection(Section):
    """CQ-SID, the residual-quantized autoencoder of the paper (section 3.1)."""

    ablation: Literal["none", "no_category", "no_contrast", "rq_vae"] = Field(
        "none", description="leave out the category guide, the query-item contrast, or both (plain RQ-VAE)"
    )
    level_sizes: tuple[Size, Size, Size] = Field(
        ("auto", "auto", "auto"),
        description="codes a level; paper 2048, 1024, 1024. auto: level 1 one code a category and free ones for the "
        "items without, levels 2 and 3 equal powers of two so that a SID holds about items_per_sid items",
    )
    items_per_sid: float = Field(4.0, gt=0, description="what auto level sizes aim at")
    codebooks: Literal["shared", "per_parent"] = Field(
        "per_parent",
        description="of levels 2 and 3; paper: shared by all prefixes. per_parent: the trained vectors are split "
        "inside each prefix by hierarchical k-means; the sizes of levels 2 and 3 then follow items_per_sid",
    )
    hidden: int = Field(256, ge=1, description="width of the hidden layer of encoder and decoder; paper: not given")
    latent: int = Field(64, ge=1, description="width of the quantized vector; paper: not given")
    warmup_epochs: int = Field(5, ge=0, description="autoencoder passes before the codebooks are initialized")
    epochs: int = Field(20, ge=1, description="passes over the items; paper: not given")
    batch_size: int = Field(256, ge=2, description="items a step, also the in-batch negatives; paper 128")
    learning_rate: float = Field(3e-3, gt=0, description="of AdamW; paper: not given")
    ema_decay: float = Field(0.99, gt=0, lt=1, description="paper 0.99")
    restart_below: float = Field(
        0.05, ge=0, lt=1, description="a code used less than this share of an even use restarts; 0: never"
    )
    commitment_weight: float = Field(1.0, ge=0, description="paper 1.0")
    contrast_weight: float = Field(0.001, ge=0, description="paper 0.001")
    temperature: float = Field(0.1, gt=0, description="of the query-item InfoNCE; paper 0.1")

    @property
    def guided(self) -> bool:
        return self.ablation in ("none", "no_contrast")

    @property
    def contrasted(self) -> bool:
        return self.ablation in ("none", "no_category")


class HierarchicalSection(Section):
    """Balanced hierarchical k-means: every node is split by itself, into more children the more items it holds."""

    level1: Literal["clusters", "category"] = Field("clusters", description="what the first code stands for")
    level1_size: Size = Field(
        "auto", description="clusters of level 1; auto: the power of two nearest sqrt(n / items_per_sid)"
    )
    items_per_sid: float = Field(4.0, gt=0, description="the leaf size aimed at")


class QuantizerSection(Section):
    candidates: tuple[QuantizerKind, ...] = Field(
        ("cq_sid", "hierarchical"), min_length=1, description="each is fitted; the one that wins on dev queries is used"
    )
    select_by: str = Field("R@50", description="the figure on dev queries that chooses between the candidates")
    category_depth: int | None = Field(None, ge=1, description="names of a category path that count; null: all")
    category_min_items: int = Field(20, ge=1, description="a rarer category joins its parent")
    max_children: int = Field(
        1024, ge=1, description="of a node that k-means splits inside itself: hierarchical, per_parent"
    )
    max_items_per_sid: int = Field(50, ge=1, description="a larger SID is split at random; paper 50")
    max_groups: int = Field(100, ge=1, description="groups a SID is split into at most; paper 100")
    cq_sid: CqSidSection = CqSidSection()
    hierarchical: HierarchicalSection = HierarchicalSection()
