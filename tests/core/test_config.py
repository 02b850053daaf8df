import pytest

from genrecall.config import Config, load
from genrecall.errors import UserError


def write(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_override_wins_over_the_file(tmp_path):
    config = load(Config, write(tmp_path, "run: {name: a, seed: 1}"), ["run.seed=7"])
    assert (config.run.name, config.run.seed) == ("a", 7)


def test_an_unknown_key_is_refused_and_the_nearest_known_one_is_named(tmp_path):
    with pytest.raises(UserError, match=r"run\.nmae: unknown key; did you mean 'name'\?"):
        load(Config, write(tmp_path, "run: {nmae: a}"))


def test_an_unknown_section_is_refused(tmp_path):
    with pytest.raises(UserError, match="runn: unknown key"):
        load(Config, write(tmp_path, "runn: {}"))


def test_a_value_out_of_range_names_the_key_and_what_was_found():
    with pytest.raises(UserError, match=r"server\.port: .*found 70000"):
        load(Config, None, ["server.port=70000"])


@pytest.mark.parametrize("override", ["run.seed", "=3", "run..seed=3"])
def test_a_malformed_override_is_refused(override):
    with pytest.raises(UserError, match=r"section\.key=value"):
        load(Config, None, [override])


def test_a_missing_file_or_one_that_is_no_mapping_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load(Config, tmp_path / "none.yaml")
    with pytest.raises(UserError, match="must be a mapping"):
        load(Config, write(tmp_path, "- a"))
    with pytest.raises(UserError, match="not YAML"):
        load(Config, write(tmp_path, "run: ["))
