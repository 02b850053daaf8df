import shutil

import pytest
import torch

from tests.faults.bundles import publish


@pytest.fixture(scope="session")
def first(tmp_path_factory):
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("bundles")
    publish(root, "v1")
    return root


@pytest.fixture
def root(first, tmp_path):
    """A folder with the bundle v1, current."""
    shutil.copytree(first, tmp_path / "bundles", symlinks=True)
    return tmp_path / "bundles"
