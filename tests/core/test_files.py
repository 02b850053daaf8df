"""A file is there whole, as it was, or not at all."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from genrecall import files


def test_a_failed_write_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = files.write_text(tmp_path / "new" / "report.md", "first")
    with pytest.raises(FileNotFoundError), files.replacing(path):
        path.with_name("missing").read_text()
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("durable", [False, True])
def test_json_holds_numbers_of_numpy_paths_and_any_text(tmp_path: Path, durable: bool) -> None:
    value = {"share": np.float32(0.5), "folder": Path("a"), "title": "Löwe \ud800"}
    read = json.loads(files.write_json(tmp_path / "a.json", value, durable=durable).read_text(encoding="utf-8"))
    assert read == {"share": 0.5, "folder": "a", "title": "Löwe ?"}


def test_keys_depend_on_values_and_not_on_their_order() -> None:
    assert files.key_of({"a": 1, "b": [2]}) == files.key_of({"b": [2], "a": 1}) != files.key_of({"a": 1, "b": [3]})


def test_checksums_of_a_file_and_of_its_parts_agree(tmp_path: Path) -> None:
    path = files.write_bytes(tmp_path / "a", b"onetwo")
    assert files.sha256(path) == files.sha256_of([b"one", "two"])


@pytest.mark.parametrize("durable", [False, True])
def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "new" / "shop"
    with pytest.raises(FileNotFoundError), files.new_folder(path, durable=durable) as folder:
        (folder / "missing").read_text()
    assert list(path.parent.iterdir()) == []
    path.mkdir()  # an empty one may be there
    with files.new_folder(path, durable=durable) as folder:
        (folder / "items").write_text("first")
    with pytest.raises(FileExistsError), files.new_folder(path):
        pytest.fail("something is there")
    with files.new_folder(path, replace=True, durable=durable) as folder:
        assert (path / "items").read_text() == "first"
        (folder / "items").write_text("second")
    assert (path / "items").read_text() == "second"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_is_for_other_accounts_too_whatever_its_writer_thought(tmp_path: Path) -> None:
    def private(path: Path) -> None:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))

    plain = tmp_path / "plain"
    plain.touch()
    with files.replacing(tmp_path / "alone") as partial:
        private(partial)
    with files.new_folder(tmp_path / "folder") as folder:
        (folder / "in").mkdir(0o700)
        private(folder / "in" / "it")
    modes = [path.stat().st_mode for path in (tmp_path / "alone", tmp_path / "folder" / "in" / "it")]
    assert modes == [plain.stat().st_mode] * 2
    assert (tmp_path / "folder").stat().st_mode == (tmp_path / "folder" / "in").stat().st_mode == tmp_dir_mode(tmp_path)


def tmp_dir_mode(folder: Path) -> int:
    (folder / "plain folder").mkdir()
    return (folder / "plain folder").stat().st_mode
