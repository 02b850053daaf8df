"""OpenSearch: the cluster and its index, how documents are sent, how lists are fused, and the local node."""

import re
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator, model_validator

from genrecall.config.base import Section


class TlsSection(Section):
    """Whom a client trusts, and who it is. PEM files."""

    ca_certs: Path | None = Field(None, description="PEM file of the authority that signed the server's certificate")
    client_cert: Path | None = Field(None, description="PEM file that authenticates this client (mutual TLS)")
    client_key: Path | None = Field(None, description="PEM file, private key of client_cert, not encrypted")

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.client_cert is None) != (self.client_key is None):
            raise ValueError("client_cert and client_key belong together: give both or neither")
        return self


class ClusterSection(TlsSection):
    """How to reach a cluster. Credentials are no settings, since these are printed and written into bundles: they are
    in the environment or in `credentials_file`, see genrecall/credentials.py.
    """

    url: str = Field(
        "http://127.0.0.1:9200",
        description="with a path where a proxy has one; several nodes of one cluster as a list or separated by commas",
    )
    sniff: bool = Field(False, description="ask the cluster for all its nodes, by the addresses that they publish")
    verify_certs: bool = True
    credentials_file: Path | None = Field(
        None, description="YAML, mode 600: user and password, or token, or api_key; instead of the environment's"
    )
    aws_region: str | None = Field(
        None, description="of a managed domain: requests are signed (SigV4) with the credentials that AWS tools find"
    )
    timeout_s: float = Field(30.0, gt=0, description="of one request")

    @property
    def hosts(self) -> list[str]:
        """The URL of each node."""
        return self.url.split(",")

    @field_validator("url", mode="before")
    @classmethod
    def _joined(cls, url: Any) -> Any:
        return ",".join(map(str, url)) if isinstance(url, list | tuple) else url

    @field_validator("url")
    @classmethod
    def _addresses(cls, url: str) -> str:
        hosts = [host.strip().rstrip("/") for host in url.split(",")]
        for host in hosts:
            try:
                parts = urlsplit(host)
                named = parts.hostname and (parts.port is None or parts.port)
            except ValueError:  # a port that is no number, half a bracket
                named = None
            if not named or not re.fullmatch(r"https?://[^?#\s]+", host):
                raise ValueError("must look like https://search.shop.example:9200, or several of them")
            if "@" in host:
                raise ValueError(
                    "must not hold credentials, since it is printed and written into bundles: see credentials_file"
                )
        if len({host.split(":")[0] for host in hosts}) > 1:
            raise ValueError("must be all http or all https")
        return ",".join(hosts)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.aws_region and self.credentials_file:
            raise ValueError("aws_region signs requests, and credentials_file would too: give one")
        if self.sniff and any(urlsplit(host).path.strip("/") for host in self.hosts):
            raise ValueError("sniff finds the addresses of nodes, which have no path as url has: set one of them")
        return self


class RetrySection(Section):
    attempts: int = Field(
        10,
        ge=1,
        description="on a lost connection and on 429, 502, 503 and 504: with the waits below one to two minutes, in "
        "which a node restarts",
    )
    backoff_s: float = Field(0.5, gt=0, description="first wait between attempts; doubles each time")
    max_backoff_s: float = Field(30.0, gt=0)


class BulkSection(RetrySection):
    docs: int = Field(500, ge=1, le=10_000, description="documents in a request, at most")
    megabytes: float = Field(10.0, gt=0, le=95, description="size of a request, at most; OpenSearch refuses 100 MB")
    max_reject_share: float = Field(0.01, ge=0, le=1, description="a larger share of rejected documents is an error")


class VectorSection(Section):
    """Lucene's HNSW graph, the engine without a native library, by cosine similarity."""

    m: int = Field(16, ge=2, le=512, description="links per node of the graph")
    ef_construction: int = Field(100, ge=2)


class FusionSection(Section):
    """Search pipelines of `hybrid` queries; weights are in the order of the clauses: BM25, k-NN, generative."""

    two: str = Field("genrecall-2", description="pipeline: min-max normalization of BM25 + k-NN")
    three: str = Field("genrecall-3", description="pipeline: min-max normalization of BM25 + k-NN + generative")
    rrf: str = Field("genrecall-rrf", description="pipeline: reciprocal rank fusion of any clauses")
    weights_two: tuple[float, float] = (0.5, 0.5)
    weights_three: tuple[float, float, float] = (0.4, 0.4, 0.2)
    rank_constant: int = Field(60, ge=1, description="k of reciprocal rank fusion")

    @field_validator("weights_two", "weights_three")
    @classmethod
    def _sum_to_one(cls, weights: tuple[float, ...]) -> tuple[float, ...]:
        if min(weights) < 0 or abs(sum(weights) - 1) > 1e-6:
            raise ValueError("weights must be positive and sum to 1")
        return weights


class RefreshSection(Section):
    """Moving the alias to the index of another codebook, and back."""

    endpoint: str | None = Field(
        "127.0.0.1:50051",
        description="inference server that assigns SIDs to items that the bundle lacks; null: they get no SID",
    )
    tls: TlsSection = Field(TlsSection(), description="of that server: ca_certs turns TLS on")
    slices: int = Field(2, ge=1, le=64, description="bulk requests at the same time")
    docs_per_s: float | None = Field(None, gt=0, description="throttle, to spare the cluster; null: no limit")
    catch_up_threshold: int = Field(
        1000, ge=0, description="copying ends, and the switch begins, once at most this many writes are left to copy"
    )
    drain_timeout_s: float = Field(
        6.0,
        ge=0,
        description="clauses ask in both codebooks for this long before the switch: longer than searches take, and "
        "longer than composers without the plugin cache a mapping (5 s)",
    )
    replica_timeout_s: float = Field(1800.0, gt=0, description="longest wait for the replicas of the new index")
    max_without_sid: float = Field(0.05, ge=0, le=1, description="a larger share of documents without SID is an error")
    sample_queries: int = Field(
        50,
        ge=0,
        le=1000,
        description="queries sent to both indices before the switch; 0: no check that the servers hold the bundle",
    )
    min_overlap: float = Field(0.0, ge=0, le=1, description="mean share of a query's hits that must stay")
    keep: int = Field(1, ge=1, description="indices that served before, kept for `genrecall index rollback`")
    max_delete_share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="a larger share of documents that vanished from the serving index during the job is an error: was "
        "it emptied by mistake?",
    )


class SyncSection(Section):
    """Updating the serving index from the catalogue."""

    max_delete_share: float = Field(
        0.1, ge=0, le=1, description="a larger share of deletions is an error: the catalogue may be truncated"
    )
    max_add_share: float = Field(
        0.5,
        ge=0,
        description="more new items than this share of the index's documents are an error: the catalogue may be "
        "another one",
    )


class NodeSection(Section):
    """A real OpenSearch on this machine, for trials and tests: loopback only, security off."""

    version: str = Field("3.6.0", description="one of those in genrecall/local_node/distribution.py")
    port: int = Field(9200, ge=1024, le=65435, description="HTTP; the transport takes the port 100 above")
    heap: str = Field("1g", pattern=r"^[1-9]\d*[mg]$", description="of the JVM, such as 512m or 1g")
    jvm_options: tuple[str, ...] = Field((), description="further options of the JVM, such as -XX:TieredStopAtLevel=1")
    cluster: tuple[int, ...] = Field(
        (), description="HTTP ports of all nodes of its cluster, its own included; the node is alone without"
    )
    data: Path | None = Field(None, description="where indices are kept; by default in the node's own folder")
    plugins: tuple[str, ...] = Field(
        ("plugin/target/releases/genrecall-*.zip",),
        description="zips to install; of a pattern, the newest file, in the working directory or in genrecall's own",
    )
    dir: Path | None = Field(None, description="downloads and nodes; by default <run.cache_dir>/node")
    user: str = Field("nobody", description="account that runs the node when the command is run as root")
    start_timeout_s: float = Field(180.0, gt=0, description="a node that does not answer in this time has failed")
    stop_timeout_s: float = Field(30.0, gt=0, description="a node that does not exit in this time is killed")

    @field_validator("cluster")
    @classmethod
    def _has_own_port(cls, cluster: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if cluster and info.data.get("port") not in cluster:
            raise ValueError(f"must name the node's own port, {info.data.get('port')}, among those of its cluster")
        return cluster


class OpenSearchSection(ClusterSection):
    index: str = Field(
        "products",
        pattern=r"^[a-z0-9][a-z0-9._-]*$",
        description="the alias; each codebook's index is <index>-<codebook>",
    )
    shards: int = Field(1, ge=1)
    replicas: int = Field(0, ge=0)
    dynamic: Literal["strict", "true", "false", "strict_allow_templates", "false_allow_templates"] = Field(
        "strict", description="of the mapping: what becomes of fields of your own that no template maps"
    )
    analyzer: str = Field(
        "english", min_length=1, description="of titles, brands, categories and texts: german, thai, cjk, or your own"
    )
    components: tuple[str, ...] = Field(
        (), description="component templates of your own: further fields, analyzers, a default pipeline"
    )
    template_priority: int = Field(
        100, ge=0, description="of the index template; the length of the alias is added, so that `shop-eu` beats `shop`"
    )
    refresh_interval: str = Field("1s", description="once loaded; during a load it is off")
    max_unknown: float = Field(
        0.5, ge=0, le=1, description="a larger share of items that the bundle lacks is an error: it is another shop's"
    )
    bm25_fields: tuple[str, ...] = Field(("title", "brand", "category"), min_length=1, description="such as title^2")
    lease_s: float = Field(15.0, ge=1, description="a load, refresh or sync that does not report for so long is dead")
    bulk: BulkSection = BulkSection()
    vector: VectorSection = VectorSection()
    fusion: FusionSection = FusionSection()
    refresh: RefreshSection = RefreshSection()
    sync: SyncSection = SyncSection()
    node: NodeSection = NodeSection()
