"""The dataset of a run: which folder, and, where it is not in the standard layout, which file and field holds what.

A folder in the standard layout, or one whose `dataset.json` describes it (as those of `genrecall data fetch` and
`genrecall data synthesize` do), needs `data.folder` and nothing else. A source named here overrides both.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from genrecall.config.base import Section
from genrecall.config.opensearch import ClusterSection
from genrecall.data.field_mapping import getter


def _readable(path: str | list[str]) -> str | list[str]:
    getter(path)  # raises ValueError with what is wrong
    return path


FieldPath = Annotated[str | list[str], AfterValidator(_readable)]
ALL_COLUMNS = "*"
INDEX_FIELDS = ("item_id", "title", "category", "brand", "text", "sid", "vector")  # those of every index


def refused_name(name: str) -> str:
    """Why a further field of the index cannot have this name; "" where it can."""
    if name in INDEX_FIELDS:
        return "genrecall writes a field of that name itself"
    if not name.strip() or name.startswith("_") or any(not part.strip() for part in name.split(".")):
        return "OpenSearch takes no empty part, and keeps a leading _ for itself"
    return "it has * or a comma, which name several fields" if {"*", ","} & {*name} else ""


def _extra_fields(extra: str | list[str] | dict[str, FieldPath]) -> str | list[str] | dict[str, FieldPath]:
    for name, path in paths_of(extra).items():
        if name != ALL_COLUMNS and (reason := refused_name(name)):
            raise ValueError(f"{name!r} cannot name a field of the index ({reason}): write {{another_name: {path!r}}}")
        if path != ALL_COLUMNS:
            getter(path)
    return extra


def paths_of(extra: str | list[str] | dict[str, FieldPath]) -> dict[str, FieldPath]:
    """Field of the index -> column, of `ItemFields.extra`; the key ALL_COLUMNS stands for the keys of an object."""
    if isinstance(extra, dict):
        return extra
    return {name: name for name in ([extra] if isinstance(extra, str) else extra) if name}


class ItemFields(Section):
    """Where each field of an item is: `asin`, `category[:2]`, `[description, bullet_points]`, `offer.name`."""

    id: FieldPath = "item_id"
    title: FieldPath = "title"
    category: FieldPath = Field("category", description="a list, general to specific, or one string (see separator)")
    brand: FieldPath = "brand"
    text: FieldPath = Field("text", description="several fields are joined by line breaks")
    separator: str = Field(
        "auto",
        description="splits a category given as one string: 'Home > Kitchen'; auto: the first of > » / | that the "
        "catalogue has; empty: a string is one name",
    )
    keep_html: bool = Field(False, description="leave tags and entities in texts as they are: &amp; <b>")
    extra: Annotated[str | list[str] | dict[str, FieldPath], AfterValidator(_extra_fields)] = Field(
        "",
        description="further columns that the index gets as they are: names, {field of the index: column}, or * for "
        "all; {'*': column} for the keys of an object",
    )

    numbers: list[str] = Field(
        [],
        description="fields of the index among extra whose texts become numbers: 9.99 EUR, 1.299,00 €; empty otherwise",
    )

    @model_validator(mode="after")
    def _numbers_are_extra(self) -> "ItemFields":
        paths = self.extra_paths
        if ALL_COLUMNS not in paths and (unknown := [name for name in self.numbers if name not in paths]):
            raise ValueError(
                f"numbers names {unknown[0]!r}, which is not among the fields of extra ({', '.join(paths)})"
            )
        return self

    @property
    def extra_paths(self) -> dict[str, FieldPath]:
        """Field of the index -> column; see `paths_of`."""
        return paths_of(self.extra)


class QueryFields(Section):
    id: FieldPath = "query_id"
    text: FieldPath = "text"


class JudgmentFields(Section):
    query_id: FieldPath = "query_id"
    query: FieldPath = Field("query", description="the text of the query, where it has no id")
    item_id: FieldPath = "item_id"
    grade: FieldPath = Field("grade", description="0 irrelevant, larger is better; divided by the largest that occurs")
    impressions: FieldPath = Field("impressions", description="of click counts in place of a grade")
    clicks: FieldPath = "clicks"
    purchases: FieldPath = "purchases"


class LoggedQueryFields(Section):
    """User Behavior Insights 1.3, index `ubi_queries`."""

    query_id: FieldPath = "query_id"
    user_query: FieldPath = "user_query"
    client_id: FieldPath = "client_id"
    timestamp: FieldPath = "timestamp"
    hits: FieldPath = Field("query_response_hit_ids", description="the items shown, in order: the exposures")
    gender: FieldPath = Field("query_attributes.gender", description="optional; any short word")
    age_band: FieldPath = Field("query_attributes.age_band", description="optional; any short word, such as 25-34")


class LoggedEventFields(Section):
    """User Behavior Insights 1.3, index `ubi_events`."""

    action: FieldPath = "action_name"
    query_id: FieldPath = "query_id"
    client_id: FieldPath = "client_id"
    timestamp: FieldPath = "timestamp"
    item_id: FieldPath = "event_attributes.object.object_id"
    position: FieldPath = "event_attributes.position.ordinal"
    user_query: FieldPath = Field("user_query", description="the text of its query, for logs without ubi_queries")


class Source(Section):
    """A file or several (`part-*.jsonl.gz`) in the folder, or an OpenSearch index; else a file of a standard name.

    What a file is packed in, its encoding, format, delimiter and columns are found in it.
    """

    path: str | list[str] = Field(
        "", description="CSV, TSV, JSON lines, a JSON array, XML, Parquet, TREC qrels; also with gzip; a list of these"
    )
    index: str = Field("", description="an OpenSearch index or alias of data.cluster, read by a point in time")
    encoding: str = Field("", description="such as cp1252; empty: found")
    delimiter: str = Field("", max_length=1, description="of a table; empty: found")
    fields: Section = Section()

    @model_validator(mode="after")
    def _one_place(self) -> "Source":
        if self.path and self.index:
            raise ValueError(f"give path ({self.path!r}) or index ({self.index!r}), not both")
        return self


class ItemSource(Source):
    fields: ItemFields = ItemFields()


class QuerySource(Source):
    fields: QueryFields = QueryFields()


class JudgmentSource(Source):
    fields: JudgmentFields = JudgmentFields()
    labels: dict[str, float] = Field({}, description="grades given as words: {good: 2, bad: 0}; ESCI's are known")
    offset: float = Field(0.0, description="subtracted from every grade: 1 for a scale on which 1 is irrelevant")
    clip: float | None = Field(None, gt=0, description="larger grades count as this one, offset included")
    scale: Literal["dataset", "query"] = Field(
        "dataset", description="query: grades are divided by the largest of their query instead of the dataset's"
    )


class LoggedQuerySource(Source):
    fields: LoggedQueryFields = LoggedQueryFields()


class LoggedEventSource(Source):
    fields: LoggedEventFields = LoggedEventFields()


class Sources(Section):
    """Where the records of a dataset are."""

    items: ItemSource = ItemSource()
    queries: QuerySource = QuerySource()
    judgments: JudgmentSource = JudgmentSource()
    ubi_queries: LoggedQuerySource = LoggedQuerySource()
    ubi_events: LoggedEventSource = LoggedEventSource()


class Description(Sources):
    """`dataset.json` of a dataset folder: its name, whether it was generated, and what is where."""

    name: str
    simulated: bool = False
    about: dict[str, Any] = Field({}, description="for people: origin, licence, seed, counts")


_EXPOSURES = (
    *("exposure", "impression", "impressions", "view_item_list", "item_impression", "product_impression"),
    "product_list_viewed",
)
_CLICKS = ("click", "clicked", "onclick", "click_through", "clickthrough", "item_click", "product_click")
_MORE_CLICKS = (
    *("result_click", "search_result_click", "select_item", "add_to_cart", "addtocart", "cart_add"),
    *("product_clicked", "product_added"),  # of Segment
)
_PURCHASES = (
    *("purchase", "purchased", "item_purchase", "buy", "order", "checkout", "transaction", "conversion"),
    "order_completed",
)
# What trackers call these actions: User Behavior Insights, Google Analytics 4, others; as `columns.plain` writes names.
KNOWN_ACTIONS = {
    **dict.fromkeys(_EXPOSURES, "exposure"),
    **dict.fromkeys((*_CLICKS, *_MORE_CLICKS), "click"),
    **dict.fromkeys(_PURCHASES, "purchase"),
}


class DataSection(Sources):
    folder: Path = Field(Path("data/esci-us"), description="the dataset; `genrecall data fetch esci` fills this one")
    name: str = Field("", description="empty: as the folder's dataset.json says, else the folder's name")
    cluster: ClusterSection = Field(ClusterSection(), description="OpenSearch of the sources with an index")
    actions: dict[str, Literal["exposure", "click", "purchase", "none"]] = Field(
        {},
        description="action_name of ubi_events -> exposure, click, purchase or none, beside those of KNOWN_ACTIONS; "
        "case and punctuation do not count. Others are left out and counted",
    )
    relevant: float = Field(1.0, gt=0, le=1, description="smallest normalised grade that counts as relevant")
    max_reject_share: float = Field(
        0.01, ge=0, le=1, description="a larger share of bad rows in a source stops the run"
    )
