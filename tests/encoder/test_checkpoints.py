"""Where a checkpoint comes from, and which failures mean that there is none."""

import sys
from pathlib import Path

import huggingface_hub
import pytest

from genrecall.checkpoints import resolve
from genrecall.errors import UserError

NOT_FOUND = "is neither a folder nor a reachable hub id"


def test_a_folder_is_taken_as_it_is_and_needs_a_config(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no config\.json"):
        resolve(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert resolve(tmp_path) == tmp_path


def test_what_is_no_hub_id_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match=f"checkpoint 'no/such/model' {NOT_FOUND}"):
        resolve("no/such/model")


def test_a_hub_id_that_is_not_cached_needs_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=f"checkpoint 'no-such/model' {NOT_FOUND}"):
        resolve("no-such/model")


def test_other_failures_are_not_taken_for_a_wrong_id(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    with pytest.raises(OSError, match="No space left"):
        resolve("some/model")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="needs huggingface-hub"):
        resolve("some/model")
