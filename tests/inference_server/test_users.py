"""Users as a request names them become users as a generator reads them."""

from types import SimpleNamespace

import numpy as np
import pytest

from genrecall.config.server import ServerSection
from genrecall.item_table import ItemTable
from genrecall.rpc import generative_recall_pb2 as pb
from genrecall.sid import SidSpace
from inference_server.admission.validation import InvalidRequest, check_generate
from inference_server.engines.users import UserResolver

CODES = np.array([[0, 1, 2], [3, 0, 0]], np.int32)


@pytest.fixture
def resolve():
    space = SidSpace.of(CODES)
    bundle = SimpleNamespace(codebook="v7", space=space, item_table=ItemTable.of(["a", "b"], CODES, space))
    return UserResolver(bundle)


def test_sids_come_before_items_and_what_is_unknown_is_left_out(resolve):
    user = pb.User(gender="f", recent_sids=["v7/3/0/0", "v6/1/1/1"], recent_items=["sold out", "a"])
    found = resolve(user)
    assert found.gender == "f"
    assert found.age_band == ""
    assert found.recent.tolist() == [[3, 0, 0], [0, 1, 2]]


def test_nobody_stays_nobody(resolve):
    assert resolve(None) is None
    assert resolve(pb.User()).recent.shape == (0, 3)


def test_a_malformed_sid_is_refused_by_name():
    query = pb.Query(text="shoes", user=pb.User(recent_sids=["v7/1/2/2147483648"]))
    with pytest.raises(InvalidRequest, match=r"'v7/1/2/2147483648' is not a SID term: codes are at most 2147483647"):
        check_generate(pb.GenerateRequest(queries=[query]), ServerSection())
    query = pb.Query(text="shoes", user=pb.User(recent_sids=["v7/1/2/3", "v7/x"]))
    with pytest.raises(InvalidRequest, match=r"queries\[0\]\.user\.recent_sids: 'v7/x' is not a SID term"):
        check_generate(pb.GenerateRequest(queries=[query]), ServerSection())


def test_each_query_keeps_its_own_user():
    request = pb.GenerateRequest(queries=[pb.Query(text="a"), pb.Query(text="b", user=pb.User(gender="m"))])
    params = check_generate(request, ServerSection())
    assert [user.gender if user else None for user in params.users] == [None, "m"]
