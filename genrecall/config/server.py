"""The inference server: where it listens, what it holds, how it batches, what it refuses. Read with docs/serving.md."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from genrecall.config.base import Section


class ServerSection(Section):
    """An entry is what is computed for one query, one item, or `max_beam_width` SIDs of a call of `Score`."""

    host: str = Field("127.0.0.1", description="loopback unless told otherwise")
    port: int = Field(50051, ge=0, le=65535, description="0: any free port")
    processes: int = Field(
        1,
        ge=1,
        le=64,
        description="1: all in one; more: so many that speak gRPC, all on the port, before one more that computes",
    )
    reflection: bool = True

    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    engine: Literal["auto", "torch", "onnx", "tensorrt"] = Field(
        "auto", description="what computes; auto: an export in the bundle where this machine can run it, else torch"
    )
    dtype: Literal["float32", "bfloat16", "float16", "int8"] = Field(
        "float32", description="of the weights; float16 and int8 where the engine has them"
    )
    normalizer: Literal["children", "level", "vocabulary"] | None = Field(
        None,
        description="over what a step's probabilities sum to one, with torch: the codes that some item has, all codes "
        "of the level, the whole vocabulary; None: as in training",
    )
    threads: int = Field(0, ge=0, description="threads on the CPU; 0: as many as the engine takes by itself")
    hold: int = Field(2, ge=1, le=16, description="bundles held at once: the current and the ones before")
    watch_s: float = Field(10.0, ge=0, description="how often to look for new bundles; 0: only when SIGHUP asks for it")

    default_k: int = Field(50, ge=1, description="SIDs of a query whose call names no k")
    max_k: int = Field(1024, ge=1)
    max_beam_width: int = Field(1024, ge=1)
    max_queries: int = Field(256, ge=1, description="queries in one call of Generate")
    max_query_chars: int = Field(1000, ge=1)
    max_recent: int = Field(100, ge=0, description="entries of recent_sids, and of recent_items")
    max_score_sids: int = Field(8192, ge=1, description="SIDs in one call of Score")
    max_items: int = Field(256, ge=1, description="items in one call of Encode")
    max_item_chars: int = Field(
        20_000, ge=1, description="characters of each field of an item, all names of its category together"
    )
    max_request_bytes: int = Field(1 << 20, ge=1 << 10)

    max_batch: int = Field(32, ge=1, description="entries that are computed together")
    max_batch_tokens: int = Field(4096, ge=1, description="padded tokens that are computed together")
    linger_ms: float = Field(
        0.0, ge=0, le=1000, description="how long an idle server waits for company; 0: a lone query never waits"
    )
    buckets: tuple[int, ...] = Field(
        (16, 32, 64, 128, 256, 512, 1024),
        min_length=1,
        description="padded lengths by which prompts share batches, ascending; beyond the last, multiples of it",
    )

    max_pending: int = Field(
        1024, ge=1, description="entries waiting or running; a call that would exceed it is answered RESOURCE_EXHAUSTED"
    )
    max_concurrent_score: int = Field(
        32, ge=1, description="calls of Score under way, so that rerankers leave room for searches"
    )
    max_concurrent_encode: int = Field(
        2, ge=1, description="calls of Encode under way, so that ingest jobs leave room for searches"
    )
    pushback_ms: int = Field(50, ge=1, description="least wait asked of a client that was turned away")
    max_pushback_ms: int = Field(2000, ge=1, description="longest wait asked of it, however long the backlog")

    drain_s: float = Field(
        1.0, ge=0, description="how long a stop still accepts calls once health says NOT_SERVING: balancers look away"
    )
    grace_s: float = Field(10.0, ge=0, description="how long a stop then waits for the calls in flight")

    tls_cert: Path | None = Field(None, description="PEM chain; read again when the file changes. None: plaintext")
    tls_key: Path | None = None
    tls_client_ca: Path | None = Field(None, description="PEM; given, clients must show a certificate from it")

    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Prometheus metrics over HTTP, 0: any free port; none by default: a second server on the machine "
        "would fail on a port that nobody asked for",
    )
    metrics_host: str = Field("127.0.0.1", description="loopback unless told otherwise: metrics have no TLS")
    log_format: Literal["text", "json"] = Field("text", description="one event a line, either way")
    log_queries: bool = Field(False, description="whether the log of calls (-v) tells what people searched for")

    otel_endpoint: str | None = Field(
        None,
        pattern="^https?://",
        description="OpenTelemetry collector for a span a call (OTLP over gRPC), such as http://127.0.0.1:4317",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "ServerSection":
        if self.pushback_ms > self.max_pushback_ms:
            raise ValueError(
                f"pushback_ms is {self.pushback_ms}, more than max_pushback_ms = {self.max_pushback_ms}: lower one or "
                "raise the other"
            )
        if list(self.buckets) != sorted(set(self.buckets)) or self.buckets[0] < 1:
            raise ValueError(f"buckets are {list(self.buckets)}: give ascending numbers of 1 or more")
        return self
