"""TLS and mutual TLS with real certificates that change while the server runs."""

import asyncio
import logging
import subprocess

import grpc
import pytest

from genrecall.client import Client, ServerError
from genrecall.config.server import ServerSection
from genrecall.errors import UserError
from inference_server.tls import credentials
from tests.inference_server.serving import ThreeSids, served


class Pair:
    """A certificate that vouches for itself, and its key."""

    def __init__(self, folder, name):
        self.cert, self.key = folder / f"{name}.pem", folder / f"{name}-key.pem"
        subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2", "-nodes"]
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        files = ["-keyout", self.key, "-out", self.cert]
        subprocess.run(["openssl", "req", "-x509", *kind, *subject, *files], check=True, capture_output=True)

    def install(self, other):
        """Take the place of `other`'s files."""
        other.cert.write_bytes(self.cert.read_bytes())
        other.key.write_bytes(self.key.read_bytes())


@pytest.fixture
def pair(tmp_path):
    return lambda name: Pair(tmp_path, name)


async def ask(running, trusts, shows=None):
    """Whether a new connection is answered."""

    def call():
        certificates = {"client_certificate": shows.cert, "client_key": shows.key} if shows else {}
        with Client(f"127.0.0.1:{running.port}", timeout_s=5, trusted_certificates=trusts, **certificates) as client:
            return len(client.generate(["a"], k=2).codes[0]) == 2

    try:
        return await asyncio.to_thread(call)
    except ServerError as error:
        if error.code is not grpc.StatusCode.UNAVAILABLE:
            raise
        return False


def test_only_clients_that_trust_the_certificate_are_answered(pair):
    async def main():
        ours = pair("ours")
        async with served(ThreeSids(), tls_cert=ours.cert, tls_key=ours.key) as (_, running, __):
            assert await ask(running, ours.cert)
            assert not await ask(running, pair("other").cert)
            assert not await ask(running, None)

    asyncio.run(main())


def test_with_a_client_authority_only_clients_with_its_certificate_are_answered(pair):
    async def main():
        ours, known, stranger = pair("ours"), pair("known"), pair("stranger")
        files = {"tls_cert": ours.cert, "tls_key": ours.key, "tls_client_ca": known.cert}
        async with served(ThreeSids(), **files) as (_, running, __):
            assert await ask(running, ours.cert, known)
            assert not await ask(running, ours.cert, stranger)
            assert not await ask(running, ours.cert)
            stranger.install(known)  # the authority changed: who was a stranger is known now
            assert await ask(running, ours.cert, stranger)

    asyncio.run(main())


def test_a_new_certificate_serves_new_connections_and_a_broken_one_is_logged_once_and_changes_nothing(pair, caplog):
    async def main():
        ours, old, new = pair("ours"), pair("old"), pair("new")
        old.install(ours)
        async with served(ThreeSids(), tls_cert=ours.cert, tls_key=ours.key) as (_, running, __):
            assert await ask(running, old.cert)
            new.install(ours)
            assert await ask(running, new.cert)
            assert not await ask(running, old.cert)
            ours.key.write_bytes(old.key.read_bytes())  # a certificate and a key that do not fit
            assert await ask(running, new.cert)
            assert await ask(running, new.cert)
            ours.cert.unlink()
            assert await ask(running, new.cert)
            old.install(ours)
            assert await ask(running, old.cert)
        secret = old.key.read_text().splitlines()[1]
        assert secret not in caplog.text

    caplog.set_level(logging.INFO)
    asyncio.run(main())
    events = [record.getMessage() for record in caplog.records if record.name == "inference_server.tls"]
    assert events == ["certificate replaced"] + ["certificate refused"] * 2 + ["certificate replaced"]


def test_files_that_are_missing_or_do_not_fit_are_refused_at_the_start(pair, tmp_path):
    ours, other = pair("ours"), pair("other")
    with pytest.raises(UserError, match=r"tls_cert is set, but .* belong together"):
        credentials(ServerSection(tls_cert=ours.cert))
    with pytest.raises(UserError, match=r"tls_client_ca is set, but .* belong together"):
        credentials(ServerSection(tls_client_ca=ours.cert))
    with pytest.raises(UserError, match=r"nowhere.pem, .* cannot be read: .*No such file"):
        credentials(ServerSection(tls_cert=tmp_path / "nowhere.pem", tls_key=ours.key))
    with pytest.raises(UserError, match=r"cannot be read: .*KEY_VALUES_MISMATCH"):
        credentials(ServerSection(tls_cert=ours.cert, tls_key=other.key))
    assert credentials(ServerSection()) is None


def test_an_encrypted_key_is_refused_and_no_password_is_asked_for(pair, tmp_path):
    ours, locked = pair("ours"), tmp_path / "locked.pem"
    change = ["openssl", "pkey", "-in", ours.key, "-out", locked, "-aes256", "-passout", "pass:secret"]
    subprocess.run(change, check=True, capture_output=True)
    with pytest.raises(UserError, match="cannot be read"):
        credentials(ServerSection(tls_cert=ours.cert, tls_key=locked))
