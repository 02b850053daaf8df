"""The inference server: where it listens, what it holds, what it refuses."""

from pathlib import Path

from pydantic import Field

from genrecall.config.base import Section


class ServerSection(Section):
    host: str = Field("127.0.0.1", description="loopback unless told otherwise")
    port: int = Field(50051, ge=0, le=65535, description="0: any free port")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    threads: int = Field(0, ge=0, description="torch threads; 0: torch's default")
    hold: int = Field(
        2, ge=1, le=16, description="bundles held at once when none are named: the current and the ones before"
    )
    default_k: int = Field(50, ge=1)
    max_k: int = Field(1024, ge=1)
    max_beam_width: int = Field(1024, ge=1)
    max_queries: int = Field(256, ge=1, description="queries in one call")
    max_query_chars: int = Field(1000, ge=1)
    max_recent: int = Field(100, ge=0)
    max_request_bytes: int = Field(1 << 20, ge=1 << 10)
    max_pending: int = Field(64, ge=1, description="calls waiting or running; one more is answered RESOURCE_EXHAUSTED")
    pushback_ms: int = Field(50, ge=1, description="the wait asked of a client that was turned away")
    grace_s: float = Field(10.0, ge=0, description="how long a stop waits for the calls in flight")
    reflection: bool = True
    tls_cert: Path | None = None
    tls_key: Path | None = None
