"""TLS and mutual TLS over real connections, with an authority of the test's own."""

import grpc
import pytest

from genrecall.client import Retry, ServerError
from genrecall.errors import UserError
from tests.client.scripted import Scripted, serving
from tests.pki import make

ONCE = Retry(max_attempts=1)


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return make(tmp_path_factory.mktemp("pki"))


def server_credentials(pki, mutual):
    pair = ((pki / "server.key").read_bytes(), (pki / "server.pem").read_bytes())
    return grpc.ssl_server_credentials([pair], (pki / "ca.pem").read_bytes() if mutual else None, mutual)


def test_a_client_that_trusts_the_authority_is_answered_and_others_are_not(connect, pki):
    with serving(Scripted(), credentials=server_credentials(pki, mutual=False)) as port:
        assert connect(port, trusted_certificates=pki / "ca.pem").generate(["a"]).codebook == "v1"
        for trust in ({}, {"trusted_certificates": pki / "client.pem"}):
            with pytest.raises(ServerError, match="check the endpoint and the certificates") as caught:
                connect(port, retry=ONCE, **trust).describe()
            assert caught.value.code == grpc.StatusCode.UNAVAILABLE


def test_mutual_tls_answers_who_shows_a_certificate_and_refuses_who_does_not(connect, pki):
    pair = {"client_certificate": pki / "client.pem", "client_key": pki / "client.key"}
    with serving(Scripted(), credentials=server_credentials(pki, mutual=True)) as port:
        assert connect(port, trusted_certificates=pki / "ca.pem", **pair).generate(["a"]).codebook == "v1"
        with pytest.raises(ServerError) as caught:
            connect(port, retry=ONCE, trusted_certificates=pki / "ca.pem").describe()
    assert caught.value.code == grpc.StatusCode.UNAVAILABLE


def test_half_a_pair_and_a_missing_file_are_the_user_s_errors(connect, pki):
    with pytest.raises(UserError, match="belong together"):
        connect(1, client_certificate=pki / "client.pem")
    with pytest.raises(UserError, match=r"cannot be read: .*nowhere\.pem"):
        connect(1, trusted_certificates=pki / "nowhere.pem")
