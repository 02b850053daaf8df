import pyarrow as pa
import pytest

from genrecall.records import JUDGMENTS, relevant


@pytest.mark.parametrize("least", [0.1, 0.3, 0.7, 0.9, 1.0])
def test_a_grade_equal_to_the_threshold_is_relevant(least):
    rows = [{"query_id": "q", "item_id": str(grade), "grade": grade} for grade in (0.0, least, 1.0)]
    kept = relevant(pa.Table.from_pylist(rows, schema=JUDGMENTS), least)
    assert kept["item_id"].to_pylist() == [str(least), "1.0"]
