"""How a cluster is reached, through a real proxy in front of the real node: hosts, paths, TLS, credentials."""

import base64
import hashlib
import hmac
import json
import logging
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError

from genrecall import config
from genrecall.config.opensearch import OpenSearchSection
from genrecall.errors import UserError
from genrecall.opensearch import connect, explain_errors, is_transient
from index_mappings.load import LoadInput, load
from index_mappings.progress import Progress
from tests import pki as certificates
from tests.index.conftest import META, Shop, everything, fill
from tests.index.gate import Asked, Gate, gate

pytestmark = pytest.mark.node
SECRET = "hunter2-€-not-to-be-seen"
TOKEN = "eyJhbGciOiJIUzI1NiJ9.c2hvcA.c2VjcmV0"
BASIC = "Basic " + base64.b64encode(f"shop:{SECRET}".encode()).decode()


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates.make(tmp_path_factory.mktemp("pki"))


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in ("USER", "PASSWORD", "TOKEN", "API_KEY"):
        monkeypatch.delenv(f"GENRECALL_OPENSEARCH_{name}", raising=False)
        monkeypatch.delenv(f"GENRECALL_OPENSEARCH_{name}_FILE", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str, int], Path]:
    def write(text: str, mode: int = 0o600) -> Path:
        file = tmp_path / "credentials.yaml"
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)
        return file

    return write


def ask(section: OpenSearchSection, setting: str = "opensearch") -> str:
    """The version of the cluster, or a UserError."""
    with explain_errors(section, setting):
        return connect(section).info()["version"]["number"]


def with_(section: OpenSearchSection, gate: Gate, **changes: object) -> OpenSearchSection:
    return OpenSearchSection.model_validate(section.model_dump() | {"url": gate.url} | changes)


def refused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


# --- hosts and paths


def test_an_index_is_loaded_through_tls_and_a_path_of_the_proxy(
    client: OpenSearch, section: OpenSearchSection, pki: Path, tmp_path: Path
):
    with gate(section.url, "/search/eu", pki=pki) as proxy:
        reached = with_(section, proxy, ca_certs=pki / "ca.pem")
        assert fill(reached, Shop.of(25), tmp_path).documents == 25
    assert len(everything(client, section.index)) == 25
    assert any("_bulk" in asked.path for asked in proxy.asked)


def test_a_host_that_is_gone_costs_no_request(client: OpenSearch, section: OpenSearchSection, tmp_path: Path):
    with gate(section.url) as first, gate(section.url) as second:
        hosts = [f"http://127.0.0.1:{refused_port()}", first.url, second.url]
        several = connect(with_(section, first, url=hosts))  # without retries
        for _ in range(12):
            assert several.info()["version"]
        assert fill(with_(section, first, url=hosts), Shop.of(25), tmp_path).documents == 25
    assert first.asked
    assert second.asked
    assert len(everything(client, section.index)) == 25


def test_a_host_that_goes_during_a_load_loses_nothing(client: OpenSearch, section: OpenSearchSection, tmp_path: Path):
    shop = Shop.of(95)
    source = LoadInput(META, shop.items, shop.terms, shop.vectors, {"items": "sha"})
    with gate(section.url) as stays, gate(section.url) as goes:
        several = with_(section, stays, url=[goes.url, stays.url])

        def advance(done: int, rows: int) -> None:
            goes.open = done < 40

        job = connect(several, retry=several.bulk)
        assert load(job, several, source, tmp_path, progress=Progress(advance=advance)).documents == 95
    assert len(everything(client, section.index)) == 95
    assert not goes.open
    assert goes.asked


def test_where_no_host_answers_all_are_named(section: OpenSearchSection):
    hosts = f"http://127.0.0.1:{refused_port()},http://127.0.0.1:{refused_port()}"
    with pytest.raises(UserError, match=f"no OpenSearch answers at {hosts} .*data.cluster.url"):
        ask(OpenSearchSection(url=hosts), "data.cluster")


def test_nodes_are_asked_for_only_with_sniff(section: OpenSearchSection):
    with gate(section.url) as proxy:
        for _ in range(3):
            ask(with_(section, proxy))
        assert [asked.path for asked in proxy.asked] == ["/"] * 3
        client = connect(with_(section, proxy, sniff=True))
        client.info()
    assert [asked.path for asked in proxy.asked[3:]] == ["/_nodes/_all/http"]
    assert client.info()["version"]  # at the node's own address: the proxy is gone
    with pytest.raises(UserError, match=r"says which nodes .*opensearch\.sniff=false"):
        ask(OpenSearchSection(url=f"http://127.0.0.1:{refused_port()}", sniff=True))


# --- TLS


def test_a_certificate_is_trusted_by_its_authority_or_by_choice(section: OpenSearchSection, pki: Path):
    with gate(section.url, pki=pki) as proxy:
        assert ask(with_(section, proxy, ca_certs=pki / "ca.pem")) == "3.6.0"
        assert ask(with_(section, proxy, verify_certs=False)) == "3.6.0"
        for trusted in (None, pki / "client.pem"):
            with pytest.raises(UserError, match=r"certificate is not trusted: set opensearch\.ca_certs"):
                ask(with_(section, proxy, ca_certs=trusted))
        for file in (pki / "nowhere.pem", pki / "ca.key"):
            with pytest.raises(UserError, match=f"ca_certs {file} cannot be read"):
                ask(with_(section, proxy, ca_certs=file))


@pytest.mark.parametrize("verify", [True, False])
def test_a_client_certificate_is_shown(section: OpenSearchSection, pki: Path, verify: bool):
    known = {"ca_certs": pki / "ca.pem", "verify_certs": verify}
    pair = {"client_cert": pki / "client.pem", "client_key": pki / "client.key"}
    with gate(section.url, pki=pki, mutual=True) as proxy:
        assert ask(with_(section, proxy, **known, **pair)) == "3.6.0"
        with pytest.raises(UserError, match=r"this client's certificate, set opensearch\.client_cert and"):
            ask(with_(section, proxy, **known))
        with pytest.raises(UserError, match=r"client_key .*server\.key cannot be read"):
            ask(with_(section, proxy, **known, client_cert=pki / "client.pem", client_key=pki / "server.key"))


def test_tls_where_none_is_spoken_is_told(section: OpenSearchSection):
    with pytest.raises(UserError, match=r"no TLS is spoken there: set opensearch\.url to http://"):
        ask(OpenSearchSection(url=section.url.replace("http://", "https://")))


# --- credentials


def environment(**values: str) -> Callable[..., dict]:
    def place(monkeypatch: pytest.MonkeyPatch, folder: Path, written: Callable) -> dict:
        for name, value in values.items():
            (folder / name).write_text(f"{value}\n", encoding="utf-8")
            monkeypatch.setenv(f"GENRECALL_OPENSEARCH_{name}", str(folder / name) if name.endswith("_FILE") else value)
        return {}

    return place


def file(**values: str) -> Callable[..., dict]:
    return lambda monkeypatch, folder, written: {"credentials_file": written(json.dumps(values))}


GIVEN = {
    "environment": (environment(USER="shop", PASSWORD=SECRET), BASIC),
    "secret of a container": (environment(USER="shop", PASSWORD_FILE=SECRET), BASIC),
    "token": (environment(TOKEN=TOKEN), f"Bearer {TOKEN}"),
    "token of a container": (environment(TOKEN_FILE=TOKEN), f"Bearer {TOKEN}"),
    "key": (environment(API_KEY=TOKEN), f"ApiKey {TOKEN}"),
    "file": (file(user="shop", password=SECRET), BASIC),
    "file with a token": (file(token=TOKEN), f"Bearer {TOKEN}"),
    "file with a key": (file(api_key=TOKEN), f"ApiKey {TOKEN}"),
}


@pytest.mark.parametrize("name", GIVEN)
def test_credentials_reach_the_cluster_and_nothing_else(
    name: str,
    section: OpenSearchSection,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    written: Callable,
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.INFO, "opensearch")  # its DEBUG prints bodies, and this proxy's repeat what they are sent
    place, expected = GIVEN[name]
    changes = place(monkeypatch, tmp_path, written)
    with gate(section.url, admits=lambda asked: asked.headers["Authorization"] == expected) as proxy:
        given = with_(section, proxy, **changes)
        assert ask(given) == "3.6.0"
        client = connect(given)
    with gate(section.url, admits=lambda asked: False) as other, pytest.raises(UserError) as refusal:
        ask(with_(section, other, **changes))
    assert "refused the credentials (401): those of" in str(refusal.value)
    assert proxy.authorizations | other.authorizations == {expected}
    secrets = (SECRET, TOKEN, expected, expected.split()[1])
    seen = [str(refusal.value), caplog.text, repr(client), repr(client.transport), repr(given), given.model_dump_json()]
    assert not [secret for secret in secrets for text in seen if secret in text]


def test_a_file_of_the_section_precedes_the_environment(
    section: OpenSearchSection, monkeypatch: pytest.MonkeyPatch, written: Callable
):
    monkeypatch.setenv("GENRECALL_OPENSEARCH_TOKEN", "another")
    with gate(section.url) as proxy:
        ask(with_(section, proxy, credentials_file=written(f"token: {TOKEN}")))
    assert proxy.authorizations == {f"Bearer {TOKEN}"}


def test_a_token_that_is_replaced_is_used_at_once(section: OpenSearchSection, written: Callable):
    with gate(section.url) as proxy:
        client = connect(with_(section, proxy, credentials_file=written("token: old")))
        client.info()
        written("token: new")
        client.info()
    assert [asked.headers["Authorization"] for asked in proxy.asked] == ["Bearer old", "Bearer new"]


def test_without_credentials_the_refusal_says_where_they_belong(section: OpenSearchSection):
    given = r"none are given: set GENRECALL_OPENSEARCH_USER and .*credentials_file"
    with gate(section.url, admits=lambda asked: False) as proxy, pytest.raises(UserError, match=given):
        ask(with_(section, proxy))
    assert proxy.authorizations == {None}


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        ("token: SECRET", 0o644, "is open to other accounts: chmod 600"),
        ("token: SECRET", 0o640, "is open to other accounts: chmod 600"),
        ("token: 'SECRET", 0o600, "is neither YAML nor JSON"),
        ("SECRET", 0o600, "must have user and password, or a token, or an api_key"),
        ("tokn: SECRET", 0o600, "must have user and password, or a token, or an api_key"),
        ("user: shop\npassword: 0123", 0o600, "password in .* is not a text: put it in quotes"),
        ("password: SECRET", 0o600, "gives password: give user and password"),
        ("user: shop\npassword: SECRET\ntoken: SECRET", 0o600, "gives password and token and user: give"),
        ('token: "SECRET\\n"', 0o600, "token in .* has spaces, line breaks"),
        ('user: "a:b"\npassword: SECRET', 0o600, "has a colon"),
    ],
)
def test_a_credentials_file_that_will_not_do_is_refused_without_a_word_of_it(
    text: str, mode: int, message: str, written: Callable
):
    file = written(text.replace("SECRET", TOKEN), mode)
    with pytest.raises(UserError, match=message) as refusal:
        connect(OpenSearchSection(credentials_file=file))
    assert TOKEN not in str(refusal.value)
    assert str(file) in str(refusal.value)


def test_half_a_pair_two_kinds_and_missing_files_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with pytest.raises(UserError, match=r"nowhere cannot be read: No such file"):
        connect(OpenSearchSection(credentials_file=tmp_path / "nowhere"))
    monkeypatch.setenv("GENRECALL_OPENSEARCH_USER", "shop")
    with pytest.raises(UserError, match="the environment gives user: give user and password"):
        connect(OpenSearchSection())
    monkeypatch.setenv("GENRECALL_OPENSEARCH_PASSWORD_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"PASSWORD_FILE=.*nowhere cannot be read"):
        connect(OpenSearchSection())
    monkeypatch.setenv("GENRECALL_OPENSEARCH_PASSWORD", SECRET)
    with pytest.raises(UserError, match="GENRECALL_OPENSEARCH_PASSWORD_FILE are both set"):
        connect(OpenSearchSection())


# --- managed domains


def signed(asked: Asked, secret: str) -> bool:
    """Whether a request bears AWS's signature, version 4, of `secret` for the service es: by the standard library.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html
    """
    scheme, _, fields = asked.headers["Authorization"].partition(" ")
    given = dict(field.strip().split("=", 1) for field in fields.split(","))
    _, day, region, service, _ = given["Credential"].split("/")
    path, _, query = asked.path.partition("?")
    names = given["SignedHeaders"].split(";")
    digest = hashlib.sha256(asked.body).hexdigest()
    canonical = "\n".join(
        [
            asked.method,
            quote(path),
            "&".join(sorted(query.split("&"))),
            *(f"{name}:{asked.headers[name].strip()}" for name in names),
            "",
            ";".join(names),
            digest,
        ]
    )
    scope = f"{day}/{region}/{service}/aws4_request"
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    text = f"AWS4-HMAC-SHA256\n{asked.headers['X-Amz-Date']}\n{scope}\n{hashed}"
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    return (scheme, service, digest, signature) == (
        "AWS4-HMAC-SHA256",
        "es",
        asked.headers["X-Amz-Content-SHA256"],
        given["Signature"],
    )


def test_requests_to_a_managed_domain_are_signed(
    section: OpenSearchSection,
    client: OpenSearch,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    pki: Path,
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    monkeypatch.setenv("GENRECALL_OPENSEARCH_TOKEN", "of-another-cluster")
    with gate(section.url, pki=pki, admits=lambda asked: signed(asked, SECRET)) as domain:
        managed = with_(section, domain, ca_certs=pki / "ca.pem", aws_region="eu-central-1")
        assert fill(managed, Shop.of(25), tmp_path).documents == 25
        assert connect(managed).search(index=section.index, params={"q": "title:red shoe", "size": 3})["hits"]["hits"]
    assert len(everything(client, section.index)) == 25
    assert all("/eu-central-1/es/" in (value or "") for value in domain.authorizations)
    with (
        gate(section.url, admits=lambda asked: signed(asked, "another")) as domain,
        pytest.raises(UserError, match=r"refused the credentials .*access policy, and opensearch\.aws_region") as no,
    ):
        ask(with_(section, domain, aws_region="eu-central-1"))
    assert not [secret for secret in (SECRET, TOKEN) for text in (str(no.value), caplog.text) if secret in text]


def test_a_managed_domain_needs_credentials_and_the_extra(monkeypatch: pytest.MonkeyPatch):
    section = OpenSearchSection(aws_region="eu-central-1")
    with pytest.raises(UserError, match="there are no AWS credentials: set AWS_ACCESS_KEY_ID"):
        connect(section)
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(UserError, match=r"needs the extra 'aws' .*pip install 'genrecall\[aws\]'"):
        connect(section)


# --- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "search.shop.example"}, "must look like"),
        ({"url": "https://a:port"}, "must look like"),
        ({"url": "https://a?x=1"}, "must look like"),
        ({"url": []}, "must look like"),
        ({"url": ["https://a", "http://b"]}, "all http or all https"),
        ({"url": f"https://shop:{TOKEN}@a:9200"}, "must not hold credentials"),
        ({"url": f"https://shop:{TOKEN}/x@a:9200"}, "must look like"),
        ({"client_cert": "a.pem"}, "belong together"),
        ({"aws_region": "x", "credentials_file": "y"}, "give one"),
        ({"url": "https://a/path", "sniff": True}, "set one of them"),
    ],
)
def test_settings_that_contradict_are_refused_without_secrets(settings: dict, message: str):
    words = [f"opensearch.{key}={json.dumps(value)}" for key, value in settings.items()]
    with pytest.raises(UserError, match=message) as refusal:
        config.load(config.Config, None, words)
    assert TOKEN not in str(refusal.value)


def test_one_url_a_list_and_a_line_of_them_are_the_same_setting():
    assert OpenSearchSection(url="https://a:9200/").hosts == ["https://a:9200"]
    listed = config.load(config.Config, None, ["opensearch.url=[https://a/es/, 'https://b:9200']"]).opensearch
    assert (
        listed.hosts
        == OpenSearchSection(url="https://a/es , https://b:9200").hosts
        == ["https://a/es", "https://b:9200"]
    )
    assert listed.url == "https://a/es,https://b:9200"


@pytest.mark.parametrize(
    ("status", "cause", "transient"),
    [
        (500, "node_disconnected_exception", True),  # a search that a node was answering when it was killed
        (404, "shard_not_found_exception", True),  # a shard that has just moved
        (404, "index_not_found_exception", False),
        (500, "null_pointer_exception", False),
    ],
)
def test_what_another_copy_of_a_shard_may_answer_is_transient(status: int, cause: str, transient: bool):
    info = {"error": {"type": "search_phase_execution_exception", "root_cause": [{"type": cause}]}, "status": status}
    assert is_transient(TransportError(status, "search_phase_execution_exception", info)) is transient
