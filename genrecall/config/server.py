"""The inference server: network, bundles, batching, limits, shutdown. docs/serving.md explains the settings."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from genrecall.addresses import is_ipv6
from genrecall.config.base import Section


class ServerSection(Section):
    """An entry of the queue is one query, one item, or up to `max_beam_width` SIDs of a `Score` call."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(50051, ge=0, le=65535, description="0: any free port")
    reflection: bool = True

    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")
    engine: Literal["auto", "torch", "onnx", "tensorrt"] = Field(
        "auto", description="inference engine; auto: an export in the bundle where this machine can run it, else torch"
    )
    dtype: Literal["float32", "bfloat16", "float16", "float8", "int8"] = Field(
        "float32", description="of the weights; float8 of torch on CUDA alone, int8 of an ONNX export alone"
    )
    torch_compile: bool = Field(
        False, description="engine torch on CUDA: fuse the layers with torch.compile, which takes minutes at the start"
    )
    threads: int = Field(0, ge=0, description="CPU threads; 0: the default of the engine")
    max_loaded: int = Field(2, ge=1, le=16, description="bundles loaded at once: the current and the ones before")
    reload_interval_s: float = Field(10.0, ge=0, description="how often to look for new bundles; 0: only on SIGHUP")

    default_k: int = Field(50, ge=1, description="SIDs per query where the request sets no k")
    max_k: int = Field(1024, ge=1)
    max_beam_width: int = Field(1024, ge=1)
    widths: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (8, 16, 32, 50, 64, 100, 128, 256, 512),
        description="beam widths that are computed, beside max_beam_width: one asked for in between is rounded up, so "
        "that calls share batches; on CUDA all are captured before a bundle is served",
    )
    max_queries: int = Field(256, ge=1, description="queries in one call of Generate")
    max_query_chars: int = Field(1000, ge=1)
    max_recent: int = Field(100, ge=0, description="entries of recent_sids, and of recent_items")
    max_score_sids: int = Field(8192, ge=1, description="SIDs in one call of Score")
    max_items: int = Field(256, ge=1, description="items in one call of Encode")
    max_item_chars: int = Field(
        20_000, ge=1, description="characters of each field of an item, all names of its category together"
    )
    max_request_bytes: int = Field(1 << 20, ge=1 << 10)

    max_batch: int = Field(32, ge=1, description="entries per batch")
    max_batch_tokens: int = Field(4096, ge=1, description="padded tokens and beams per batch")
    max_batch_delay_ms: float = Field(
        0.0, ge=0, le=1000, description="how long an idle server waits for a batch to fill; 0: never"
    )

    batch_timeout_s: float = Field(
        120.0, gt=0, description="a batch that takes longer hangs: the server reports NOT_SERVING and ends with code 1"
    )
    max_pending: int = Field(
        1024, ge=1, description="entries waiting or running; a call that would exceed it is answered RESOURCE_EXHAUSTED"
    )
    client_metadata: str = Field(
        "x-client-id",
        pattern="^[a-z0-9_.-]+$",
        description="key of the metadata that names the client, for a fair share of the queue; without it each address "
        "is a client",
    )
    max_concurrent_score: int = Field(
        32, ge=1, description="Score calls in flight, so that rerankers leave room for searches"
    )
    max_concurrent_encode: int = Field(
        2, ge=1, description="Encode calls in flight, so that ingest jobs leave room for searches"
    )

    max_connection_age_s: float = Field(
        300.0,
        gt=0,
        description="a client opens a new connection that often, give or take a tenth, so that servers that were added "
        "get calls; those in flight are finished",
    )
    shutdown_delay_s: float = Field(
        1.0, ge=0, description="how long calls are still accepted after SIGTERM, while load balancers see NOT_SERVING"
    )
    shutdown_grace_s: float = Field(10.0, ge=0, description="how long calls in flight may then take to finish")

    tls_cert: Path | None = Field(None, description="PEM chain, reloaded when the file changes; none: plaintext")
    tls_key: Path | None = None
    tls_client_ca: Path | None = Field(None, description="PEM; clients must present a certificate of it (mutual TLS)")

    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Prometheus metrics over HTTP, 0: any free port; none by default, so that two servers on a machine "
        "do not compete for a port",
    )
    metrics_host: str = Field("127.0.0.1", description="metrics have no TLS")
    http_port: int | None = Field(
        None, ge=0, le=65535, description="Generate and Describe as JSON over HTTP, 0: any free port; none by default"
    )
    http_host: str = Field("127.0.0.1", description="HTTP has no TLS")
    log_format: Literal["text", "json"] = Field("text", description="one event a line, either way")
    log_queries: bool = Field(False, description="include query texts in the access log (-v)")

    otel_endpoint: str | None = Field(
        None,
        pattern="^https?://",
        description="OpenTelemetry collector (OTLP over gRPC), one span per call: http://127.0.0.1:4317",
    )

    @field_validator("host", "metrics_host", "http_host")
    @classmethod
    def _is_address(cls, host: str) -> str:
        if not host or "/" in host or host.startswith("unix") or (":" in host and not is_ipv6(host)):
            raise ValueError(
                f"{host!r} is no address to listen on: give a name or an IP address, such as 127.0.0.1 or ::1, without "
                "a port; Unix sockets are not offered"
            )
        return host.strip("[]")

    @model_validator(mode="after")
    def _default_fits(self) -> Self:
        for limit in ("max_k", "max_beam_width"):
            if self.default_k > getattr(self, limit):
                raise ValueError(
                    f"default_k is {self.default_k} and {limit} {getattr(self, limit)}: requests that name no k would "
                    f"be refused; lower default_k or raise {limit}"
                )
        return self

    def computed_widths(self, most: int) -> list[int]:
        """The beam widths that are computed, ascending, for an engine whose widest beam is `most`."""
        widest = min(most, self.max_beam_width)
        return [*sorted({width for width in self.widths if width < widest}), widest]

    def address(self, port: int) -> str:
        """`host:port` as clients name it."""
        return f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"
