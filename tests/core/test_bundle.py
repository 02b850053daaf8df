import json
import os

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrecall import bundle
from genrecall.errors import BundleError

SIZES = (4, 4, 4)
IDS = ["a", "b", "ç 👟"]
CODES = np.array([[0, 1, 2], [3, 0, 0], [0, 1, 2]], np.int32)


def write(folder):
    (folder / "generator").mkdir()
    (folder / "generator" / "model.safetensors").write_bytes(b"weights" * 100)


def publish(root, codebook="v1", write=write, codes=CODES):
    return bundle.publish(root, codebook, bundle.Contents(IDS, codes, SIZES, "encoder", config={"run": {}}), write)


def test_a_published_bundle_opens_with_what_was_put_in(tmp_path):
    publish(tmp_path)
    opened = bundle.open(bundle.resolve(tmp_path))
    assert opened.codebook == "v1"
    assert opened.items()["item_id"].to_pylist() == IDS
    assert (bundle.codes_of(opened.items()) == CODES).all()
    assert opened.items()["path"].to_pylist() == ["0/1/2", "3/0/0", "0/1/2"]
    assert opened.space.sids.tolist() == [[0, 1, 2], [3, 0, 0]]


def test_the_valid_sids_are_mapped_from_disk_and_sorted_in_a_bundle_without_their_file(tmp_path):
    opened = publish(tmp_path)
    assert isinstance(opened.space.sids, np.memmap)
    manifest = json.loads((opened.path / "manifest.json").read_text())
    del manifest["files"]["constraint.safetensors"]
    (opened.path / "manifest.json").write_text(json.dumps(manifest))
    older = bundle.open(opened.path)
    assert not isinstance(older.space.sids, np.memmap)
    assert older.space.sids.tolist() == opened.space.sids.tolist()


def test_current_and_previous_follow_what_is_published(tmp_path):
    for codebook in ("v1", "v2", "v3"):
        publish(tmp_path, codebook)
    assert bundle.pointer(tmp_path, "current") == "v3"
    assert bundle.pointer(tmp_path, "previous") == "v2"
    assert {b.codebook for b in bundle.list_bundles(tmp_path)} == {"v1", "v2", "v3"}


def test_a_bundle_is_never_overwritten(tmp_path):
    publish(tmp_path)
    with pytest.raises(BundleError, match="never changed"):
        publish(tmp_path)


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), RuntimeError("boom"), KeyboardInterrupt()])
def test_a_failure_while_writing_publishes_nothing_and_leaves_nothing(tmp_path, failure):
    def fail(folder):
        write(folder)
        raise failure

    with pytest.raises((BundleError, type(failure))):
        publish(tmp_path, write=fail)
    assert os.listdir(tmp_path) == []


def test_codes_outside_the_levels_are_not_published(tmp_path):
    with pytest.raises(ValueError, match="level sizes"):
        publish(tmp_path, codes=CODES + 2)
    assert os.listdir(tmp_path) == []


def test_a_bundle_without_weights_is_not_published(tmp_path):
    with pytest.raises(BundleError, match=r"model\.safetensors"):
        publish(tmp_path, write=lambda folder: None)


@given(cut=st.integers(0, 699))
def test_a_truncated_file_is_named(tmp_path_factory, cut):
    opened = publish(tmp_path_factory.mktemp("bundles"))
    os.truncate(opened.generator_dir / "model.safetensors", cut)
    with pytest.raises(BundleError, match=r"model\.safetensors has \d+ bytes, 700 were published"):
        bundle.open(opened.path)


@given(at=st.integers(0, 699), bit=st.integers(0, 7))
def test_one_flipped_bit_is_noticed(tmp_path_factory, at, bit):
    opened = publish(tmp_path_factory.mktemp("bundles"))
    path = opened.generator_dir / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)
    with pytest.raises(BundleError, match="altered"):
        bundle.open(opened.path)


def test_a_missing_file_and_a_file_outside_the_bundle_are_named(tmp_path):
    opened = publish(tmp_path)
    (opened.path / "items.parquet").unlink()
    manifest = {**opened.manifest, "files": {**opened.manifest["files"], "../../etc/passwd": {"size": 0, "sha256": ""}}}
    (opened.path / "manifest.json").write_text(json.dumps(manifest))
    assert set(bundle.verify(opened.path)) == {
        "items.parquet is missing",
        "../../etc/passwd lies outside the bundle",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not JSON"), ("[]", "format None"), ('{"format": 99}', "format 99"), ('{"format": 1}', "lacks codebook")],
)
def test_a_manifest_that_cannot_be_trusted_is_refused(tmp_path, text, message):
    opened = publish(tmp_path)
    (opened.path / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=message):
        bundle.open(opened.path)


def test_an_unknown_name_lists_what_is_there(tmp_path):
    publish(tmp_path)
    with pytest.raises(BundleError, match="there: v1"):
        bundle.resolve(tmp_path, "v9")


def test_reserved_names_are_refused(tmp_path):
    with pytest.raises(BundleError, match="reserved"):
        publish(tmp_path, "current")


def test_the_manifest_records_sizes_and_versions(tmp_path):
    manifest = json.loads((publish(tmp_path).path / "manifest.json").read_text())
    assert manifest["files"]["generator/model.safetensors"]["size"] == 700
    assert manifest["sids"] == 2
    assert "numpy" in manifest["versions"]


def test_every_file_is_readable_by_another_account(tmp_path):
    opened = publish(tmp_path)
    bundle.attach(opened, "onnx/float32", lambda folder: (folder / "graph").write_bytes(b"x") and {})
    (tmp_path / "plain").touch()
    modes = {path.name: path.stat().st_mode for path in opened.path.rglob("*") if path.is_file()}
    assert modes.keys() >= {"constraint.safetensors", "items.parquet", "manifest.json", "graph"}
    assert set(modes.values()) == {(tmp_path / "plain").stat().st_mode}


def test_without_a_current_bundle_those_that_are_there_are_named(tmp_path):
    with pytest.raises(BundleError, match=r"\(there: none\); train one"):
        bundle.resolve(tmp_path)
    bundle.publish(tmp_path, "v7", bundle.Contents(IDS, CODES, SIZES, "encoder"), write, make_current=False)
    with pytest.raises(BundleError, match=r"no bundle is 'current' .*there are v7: .*genrecall bundle use v7"):
        bundle.resolve(tmp_path)


def test_only_what_is_old_and_has_no_name_is_unused(tmp_path):
    for codebook in ("v1", "v2", "v3", "v4", "v5"):
        publish(tmp_path, codebook)
    bundle.point(tmp_path, "v1")  # current v1, previous v5
    assert [b.codebook for b in bundle.unused(tmp_path, 2)] == ["v3", "v2"]
    assert [b.codebook for b in bundle.unused(tmp_path, 0)] == ["v4", "v3", "v2"]
    for unused in bundle.unused(tmp_path, 2):
        bundle.remove(unused)
    assert {path.name for path in tmp_path.iterdir()} == {"v1", "v4", "v5", "current", "previous"}


def test_a_bundle_of_another_catalogue_is_refused_with_figures(tmp_path):
    opened = publish(tmp_path)
    bundle.require_fit(opened, pa.chunked_array([["a", "b"], ["new"]]), 0.5)
    with pytest.raises(
        BundleError, match=r"lacks 2 of the catalogue's 3 items \(66\.7%; it has 3, .*max_unknown = 50%"
    ):
        bundle.require_fit(opened, pa.chunked_array([["a", "x", "y"]]), 0.5)


def test_items_are_mapped_from_disk_and_sorted_in_a_bundle_without_their_file(tmp_path):
    published = publish(tmp_path)
    expected = published.item_table
    assert isinstance(expected.digest, np.memmap)
    path = published.path / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["files"]["items.safetensors"]
    path.write_text(json.dumps(manifest))
    older = bundle.open(published.path).item_table
    assert not isinstance(older.digest, np.memmap)
    for name, array in vars(expected).items():
        np.testing.assert_array_equal(vars(older)[name], array)
