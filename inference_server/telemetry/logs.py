"""Structured logs: one event a line, a name and keys, as text or as JSON.

    2026-01-31 12:00:00,123 INFO reloaded current=v8 loaded="v8 v7"
    {"time": "2026-01-31T12:00:00.123+00:00", "level": "INFO", "event": "reloaded", "current": "v8", "loaded": "v8 v7"}

In text a traceback follows on lines of its own; in JSON it is the key `traceback`.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

ACCESS = logging.getLogger("inference_server.access")
"""One event a call."""


def event(log: logging.Logger, level: int, name: str, error: BaseException | None = None, /, **keys: object) -> None:
    """Log `name` with `keys`, and the traceback of `error`."""
    if log.isEnabledFor(level):
        log.log(level, "%s", name, exc_info=error, extra={"keys": keys})


def configure(log_format: str, verbose: bool) -> None:
    """Log to stderr: events of the server, warnings of libraries, and each call where `verbose`."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("inference_server").setLevel(logging.INFO)
    ACCESS.setLevel(logging.INFO if verbose else logging.WARNING)


class TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s%(pairs)s")

    def format(self, record: logging.LogRecord) -> str:
        record.pairs = "".join(f" {key}={_text(value)}" for key, value in _keys(record).items())
        return super().format(record)


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry = {"time": time, "level": record.levelname, "event": record.getMessage(), **_keys(record)}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


def _keys(record: logging.LogRecord) -> dict[str, object]:
    """The keys of an event; the record of another library has none."""
    return getattr(record, "keys", {})


def _text(value: object) -> str:
    """Quoted where it has spaces, quotes or line breaks."""
    if isinstance(value, float):
        return f"{value:.1f}"
    plain = str(value)
    return plain if plain.isprintable() and plain and not set(plain) & set(' "=') else json.dumps(plain)
