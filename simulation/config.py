"""Settings of the generated shop, its judgments, and the click model."""

from typing import Annotated

from pydantic import Field

from genrecall.config.base import Section

Share = Annotated[float, Field(ge=0, le=1)]


class ClickModel(Section):
    """A position-based click model over a stochastic search whose probabilities are known.

    The four probabilities are by grade: exact, substitute, complement, irrelevant.
    """

    slate: int = Field(20, ge=1, description="items shown for a query")
    noise: float = Field(
        1.0, ge=0, description="scale of the Gumbel noise added to BM25, which makes the slate Plackett-Luce"
    )
    examination: float = Field(1.0, ge=0, description="the item at rank r is examined with probability r^-examination")
    click: tuple[Share, Share, Share, Share] = (0.60, 0.30, 0.10, 0.03)
    purchase: tuple[Share, Share, Share, Share] = Field((0.25, 0.10, 0.02, 0.005), description="after a click")


class ShopSection(Section):
    items: int = Field(10_000, ge=1_000, le=20_000_000)
    seed: int = Field(13, ge=0)
    queries: int = Field(0, ge=0, le=1_000_000, description="0: a tenth of the items, at least 200, at most 20,000")
    sessions: int = Field(0, ge=0, description="logged queries; 0: twenty times the training queries")
    specific: int = Field(40, ge=1, description="about as many items match a query; head queries match more")
    head_share: float = Field(0.08, ge=0, le=1, description="queries that name only a kind of product")
    typo_share: float = Field(0.04, ge=0, le=1, description="queries with a typing error")
    max_exact: int = Field(60, ge=1, description="judged items that match exactly: the most popular ones")
    max_substitutes: int = Field(25, ge=0, description="judged items that lack one required attribute")
    others: int = Field(12, ge=0, description="further judged items: half of the same category, half any")
    train_share: float = Field(0.7, gt=0, lt=1)
    dev_share: float = Field(0.1, gt=0, lt=1, description="the rest is test")
    days: int = Field(30, ge=1, description="time span of the logs")
    clicks: ClickModel = ClickModel()

    @property
    def query_count(self) -> int:
        return self.queries or min(20_000, max(200, self.items // 10))


class SimulationSection(Section):
    """Logs simulated from the judgments of a dataset that has none."""

    seed: int = Field(13, ge=0)
    sessions: int = Field(100, ge=1, le=1_000_000, description="logged searches of each judged query")
    days: int = Field(30, ge=1, description="time span of the logs")
    clicks: ClickModel = ClickModel()
