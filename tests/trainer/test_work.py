"""What of a training run is published already, and under which name the next one goes."""

import numpy as np
import pytest

from genrecall import bundle
from genrecall.errors import BundleError
from trainer import work


def publish(root, codebook, key):
    def write(folder):
        (folder / "generator").mkdir()
        (folder / "generator" / "model.safetensors").write_bytes(b"w")

    codes = np.zeros((1, 3), np.int32)
    contents = bundle.Contents(["a"], codes, (1, 1, 1), "encoder", fingerprints={"training": key})
    bundle.publish(root, codebook, contents, write)


def test_the_next_free_codebook_follows_the_highest_number(tmp_path):
    assert work.next_codebook(tmp_path) == "v1"
    for name in ("v2", "v10", "other"):
        publish(tmp_path, name, name)
    assert work.next_codebook(tmp_path) == "v11"


def test_a_bundle_of_the_same_training_is_found_whatever_its_name_and_becomes_current(tmp_path):
    publish(tmp_path, "v1", "one")
    publish(tmp_path, "v2", "two")
    found = work.find_published(tmp_path, "auto", "one")
    assert found is not None
    assert found.codebook == bundle.pointer(tmp_path, "current") == "v1"
    assert work.find_published(tmp_path, "auto", "three") is None


def test_a_name_taken_by_another_training_is_refused_and_by_the_same_returned(tmp_path):
    publish(tmp_path, "shop", "one")
    same = work.find_published(tmp_path, "shop", "one")
    assert same is not None
    assert same.codebook == "shop"
    with pytest.raises(BundleError, match=r"choose another run\.codebook"):
        work.find_published(tmp_path, "shop", "two")
