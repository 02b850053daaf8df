"""The check of every past against the times of the acts, apart from what built it."""

import polars as pl
import pytest

from tests.logs.log import at
from trainer.logs import LeakError
from trainer.logs.leaks import check_recent
from trainer.logs.recent import with_recent

ROWS = [
    {"query_id": "q1", "client_id": "ann", "timestamp": at(0), "acted": ["a", "b"], "acted_at": [at(1), at(50)]},
    {"query_id": "q2", "client_id": "ann", "timestamp": at(10), "acted": ["c"], "acted_at": [at(11)]},
    {"query_id": "q3", "client_id": "ann", "timestamp": at(60), "acted": [], "acted_at": []},
    {"query_id": "q4", "client_id": "bob", "timestamp": at(70), "acted": [], "acted_at": []},
]
SCHEMA = {
    "query_id": pl.String,
    "client_id": pl.String,
    "timestamp": pl.Datetime("ms", "UTC"),
    "acted": pl.List(pl.String),
    "acted_at": pl.List(pl.Datetime("ms", "UTC")),
}
REQUESTS = pl.DataFrame(ROWS, SCHEMA)


def test_what_is_built_passes() -> None:
    built = with_recent(REQUESTS, 20)
    assert built["recent"].to_list() == [[], ["a"], ["b", "c", "a"], []]
    check_recent(built)


@pytest.mark.parametrize(
    "recent",
    [[["a"], [], [], []], [[], ["b"], [], []], [[], [], ["z"], []], [[], [], [], ["a"]]],
    ids=["its own", "later", "never", "of another client"],
)
def test_a_doctored_past_does_not(recent: list[list[str]]) -> None:
    doctored = REQUESTS.with_columns(recent=pl.Series(recent, dtype=pl.List(pl.String)))
    with pytest.raises(LeakError, match="1 recent items are from the future, such as"):
        check_recent(doctored)
