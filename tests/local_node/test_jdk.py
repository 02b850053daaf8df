"""Which Java runs the node."""

from pathlib import Path

import pytest

from genrecall.errors import UserError
from genrecall.local_node.jdk import find_jdk, java_version


@pytest.fixture
def jdks(tmp_path: Path):
    """A folder of Java homes with the versions given, and the function that tells their version."""

    def make(**versions: int | None):
        homes = {name: tmp_path.resolve() / "jvm" / name for name in versions}
        for home in homes.values():
            (home / "bin").mkdir(parents=True)
            (home / "bin" / "java").touch()
        by_home = {homes[name]: version for name, version in versions.items()}
        return homes, by_home.get, [f"{tmp_path.resolve()}/jvm/*"]

    return make


def test_java_home_is_taken_before_a_newer_installed_java(jdks):
    homes, version_of, folders = jdks(stated=21, newer=25)
    assert find_jdk({"JAVA_HOME": str(homes["stated"])}, version_of, None, folders) == homes["stated"]


def test_too_old_java_home_and_path_give_way_to_the_newest_installed(jdks):
    homes, version_of, folders = jdks(old=17, on_path=11, fine=21, newest=25)
    found = find_jdk({"JAVA_HOME": str(homes["old"])}, version_of, homes["on_path"], folders)
    assert found == homes["newest"]


def test_java_on_the_path_is_taken_when_java_home_is_not_set(jdks):
    homes, version_of, folders = jdks(on_path=22, newest=25)
    assert find_jdk({}, version_of, homes["on_path"], folders) == homes["on_path"]


def test_a_java_that_does_not_run_is_passed_over(jdks):
    homes, version_of, folders = jdks(broken=None, fine=21)
    assert find_jdk({"JAVA_HOME": str(homes["broken"])}, version_of, None, folders) == homes["fine"]


def test_without_a_fitting_java_the_error_names_what_was_found_and_how_to_get_one(jdks):
    _, version_of, folders = jdks(old=17)
    with pytest.raises(UserError, match=r"Java 21 or later \(found: 17 in .*JAVA_HOME"):
        find_jdk({}, version_of, None, folders)


@pytest.mark.parametrize(
    ("line", "version"),
    [('openjdk version "25.0.3" 2026-04-21 LTS', 25), ('java version "1.8.0_41"', 1), ("what?", None)],
)
def test_version_is_read_from_what_the_program_says(tmp_path: Path, line: str, version: int | None):
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text(f"#!/bin/sh\necho '{line}' >&2\n")
    java.chmod(0o755)
    assert java_version(tmp_path, {}) == version


def test_a_java_that_fails_has_no_version(tmp_path: Path):
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'version \"25\"' >&2\nexit 1\n")
    java.chmod(0o755)
    assert java_version(tmp_path, {}) is None
    assert java_version(tmp_path / "nowhere", {}) is None
