"""The sample search asks the server that the demo started, with TLS where that has a certificate."""

from pathlib import Path

import grpc
import pytest

from genrecall.client import ServerError
from genrecall.config import Config
from genrecall.config.opensearch import OpenSearchSection, RefreshSection, TlsSection
from genrecall.config.server import ServerSection
from genrecall.evaluation.sample import client_of
from tests.client.scripted import Scripted, serving
from tests.pki import make


def test_the_server_s_own_tls_is_spoken(tmp_path: Path):
    pki = make(tmp_path)
    pair = ((pki / "server.key").read_bytes(), (pki / "server.pem").read_bytes())
    credentials = grpc.ssl_server_credentials([pair], (pki / "ca.pem").read_bytes(), require_client_auth=True)
    tls = TlsSection(ca_certs=pki / "ca.pem", client_cert=pki / "client.pem", client_key=pki / "client.key")
    settings = Config(
        server=ServerSection(tls_cert=pki / "server.pem", tls_key=pki / "server.key"),
        opensearch=OpenSearchSection(refresh=RefreshSection(tls=tls)),
    )
    with serving(Scripted(), credentials=credentials) as port, client_of(settings, f"127.0.0.1:{port}") as client:
        assert client.generate(["shoes"], k=2).codebook == "v1"
        with client_of(Config(), f"127.0.0.1:{port}") as plain, pytest.raises(ServerError):
            plain.generate(["shoes"], k=2, timeout_s=1)
    with serving(Scripted()) as port, client_of(Config(), f"127.0.0.1:{port}") as client:
        assert client.generate(["shoes"], k=2).codebook == "v1"
