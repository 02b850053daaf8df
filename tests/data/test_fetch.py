"""Fetching a dataset: where it is taken from, what is checked, what is left behind when it fails."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from genrecall.config.data import DataSection, Description
from genrecall.data.esci import ESCI
from genrecall.data.fetch import PublicDataset, PublishedFile, fetch
from genrecall.data.readers import read_dataset
from genrecall.errors import UserError

CONTENT = b'{"item_id": "a", "title": "Pan"}\n'
QRELS, QUERIES = b"q1 0 a 1\n", b"q1\tpan\n"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def dataset(base: str, content: bytes = CONTENT) -> PublicDataset:
    files = {"items.jsonl": content, "qrels.txt": QRELS, "queries.tsv": QUERIES}
    described = {"name": "tiny", "simulated": False, "about": {"licence": "Apache-2.0"}}
    return PublicDataset(
        "tiny",
        tuple(
            PublishedFile(name, f"{base}/{name}", hashlib.sha256(data).hexdigest(), len(data))
            for name, data in files.items()
        ),
        described,
    )


def fill(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, data in (("items.jsonl", CONTENT), ("qrels.txt", QRELS), ("queries.tsv", QUERIES)):
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(fill(tmp_path / "www"))))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_downloads_what_no_folder_has_and_it_opens(tmp_path: Path, address: str) -> None:
    seen: list[tuple[str, int, int]] = []
    to = tmp_path / "data" / "tiny"
    origin = fetch(dataset(address), to, [tmp_path / "nowhere"], lambda *progress: seen.append(progress))
    assert origin == "the network"
    assert ("items.jsonl", len(CONTENT), len(CONTENT)) in seen
    assert read_dataset(DataSection(folder=to)).name == "tiny"
    assert fetch(dataset("http://127.0.0.1:9"), to, []) == "already there"


def test_a_folder_whole_but_for_its_description_gets_the_one_of_this_version(tmp_path: Path) -> None:
    to = fill(tmp_path / "to")
    (to / "dataset.json").write_text('{"name": "of an older version"}')
    assert fetch(dataset("http://127.0.0.1:9"), to, []) == "already there"
    assert read_dataset(DataSection(folder=to)).name == "tiny"


def test_a_folder_that_has_the_files_goes_before_the_network(tmp_path: Path) -> None:
    held = fill(tmp_path / "held")
    assert fetch(dataset("http://127.0.0.1:9"), tmp_path / "to", [tmp_path / "empty", held]) == str(held)
    assert (tmp_path / "to" / "items.jsonl").read_bytes() == CONTENT


def test_wrong_checksum_is_refused_and_leaves_nothing(tmp_path: Path, address: str) -> None:
    with pytest.raises(UserError, match=r"items\.jsonl is not the file expected: sha256 .*--from DIR"):
        fetch(dataset(address, CONTENT + b"more"), tmp_path / "data" / "tiny", [])
    assert list((tmp_path / "data").iterdir()) == []


def test_without_a_network_the_remedy_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"could not be fetched.*--from DIR.*genrecall data synthesize"):
        fetch(dataset("http://127.0.0.1:9"), tmp_path / "tiny", [])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_things_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="move it away"):
        fetch(dataset("http://127.0.0.1:9"), tmp_path, [])
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_damaged_copy_is_not_taken_for_whole(tmp_path: Path) -> None:
    held = fill(tmp_path / "held")
    fetch(dataset(""), tmp_path / "to", [held])
    (tmp_path / "to" / "qrels.txt").write_bytes(QRELS[:-3])
    with pytest.raises(UserError, match="not the whole tiny dataset"):
        fetch(dataset(""), tmp_path / "to", [held])


def test_esci_never_reads_the_query_ids_that_its_products_carry() -> None:
    described = Description.model_validate(ESCI.description)
    paths = described.items.fields.model_dump().values()
    assert "query_id" not in str(list(paths))
    assert {file.name for file in ESCI.files} == {described.items.path, described.judgments.path}
