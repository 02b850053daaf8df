"""`device` means one thing wherever it is set."""

import pytest
import torch

from genrecall.devices import find_device
from genrecall.errors import UserError


def test_auto_is_cuda_where_torch_sees_some() -> None:
    assert find_device("auto", "run.device").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert find_device("cpu", "run.device").type == "cpu"


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "mps", "meta", ""])
def test_a_name_that_is_no_device_is_the_users_mistake(name: str) -> None:
    with pytest.raises(UserError, match=r"run\.device is .*use auto, cpu, cuda or cuda:N"):
        find_device(name, "run.device")


def test_a_device_that_torch_does_not_see_is_named() -> None:
    with pytest.raises(UserError, match=r"server\.device is 'cuda:99', but torch sees"):
        find_device("cuda:99", "server.device")
