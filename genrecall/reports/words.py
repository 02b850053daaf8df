"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Mapping


def share(value: float) -> str:
    """`.746`, as everywhere in the results."""
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 0.9995 else f"{value:.3f}"


def interval(of: Mapping[str, float]) -> str:
    """`.746 [.704, .788]`."""
    return f"{share(of['mean'])} [{share(of['low'])}, {share(of['high'])}]"


def points(of: Mapping[str, float]) -> str:
    """A difference in points; bold where its interval leaves zero out."""
    text = f"{100 * of['mean']:+.1f} [{100 * of['low']:+.1f}, {100 * of['high']:+.1f}]"
    return f"**{text}**" if of["low"] > 0 or of["high"] < 0 else text


def change(values: list[float]) -> str:
    """`3.372 -> 2.360`; "-" where nothing was logged."""
    if not values:
        return "-"
    return f"{values[0]:.3f}" if len(values) == 1 else f"{values[0]:.3f} -> {values[-1]:.3f}"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
