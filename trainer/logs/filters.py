"""Sessions, and clients taken for bots. Pure, on frames of requests; a client without an id is never judged."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from genrecall.config.logs import LogsSection

KNOWN = pl.col("client_id") != ""


def sessions(requests: pl.DataFrame, minutes: float) -> pl.DataFrame:
    """`requests` (`client_id`, `timestamp`, any others), ordered by both, with `session`.

    session: uint32, from 0 for each client; a pause longer than `minutes` begins the next one. Null without a client.
    """
    pause = pl.col("timestamp").diff().over("client_id") > timedelta(minutes=minutes)
    number = pause.fill_null(False).cum_sum().over("client_id")
    return requests.sort("client_id", "timestamp", maintain_order=True).with_columns(
        session=pl.when(KNOWN).then(number).cast(pl.UInt32)
    )


def bots(requests: pl.DataFrame, logs: LogsSection) -> pl.DataFrame:
    """The clients beyond the limits of `logs`, each once with the first limit that it breaks.

    Args:
        requests: `client_id`, `timestamp`, `session`, `exposed`, `clicked`; all requests of every client in it.

    Returns:
        `client_id`, `reason`.
    """
    people = requests.filter(KNOWN)
    longest = people.group_by("client_id", "session").len().filter(pl.col("len") > logs.max_session_requests)
    busiest = people.group_by("client_id", pl.col("timestamp").dt.date().alias("day")).len()
    busiest = busiest.filter(pl.col("len") > logs.max_day_requests)
    shown, clicked = (pl.col(column).list.len().sum() for column in ("exposed", "clicked"))
    keenest = people.group_by("client_id").agg(shown=shown, clicked=clicked)
    keenest = keenest.filter(
        (pl.col("shown") >= logs.min_bot_exposures) & (pl.col("clicked") > logs.max_click_rate * pl.col("shown"))
    )
    reasons = (
        (longest, f"more than {logs.max_session_requests} requests in a session"),
        (busiest, f"more than {logs.max_day_requests} requests in a day"),
        (keenest, f"clicks more than {logs.max_click_rate:.0%} of what it is shown"),
    )
    frames = [clients.select("client_id", reason=pl.lit(reason)) for clients, reason in reasons]
    return pl.concat(frames).unique("client_id", keep="first", maintain_order=True)
