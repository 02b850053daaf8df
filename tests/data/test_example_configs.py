"""The example configurations are what the program understands."""

from pathlib import Path

import pytest

from genrecall.config import Config, load

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "data").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_example_is_accepted(path: Path) -> None:
    data = load(Config, path).data
    assert data.name == "my-shop"
    assert data.items.fields.model_fields_set >= {"id", "title", "category", "brand", "text"}
