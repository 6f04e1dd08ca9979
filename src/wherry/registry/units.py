"""Durations and sizes as people write them: `90s`, `15m`, `24h`, `7d`; `10MiB`."""

import re

from wherry.errors import InvalidArgument

_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "ms": 0.001}
_BYTES = {"": 1.0, "b": 1.0, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30, "tib": 2.0**40}
_AMOUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")

Amount = str | int | float
"""A bare number counts seconds or bytes."""


def seconds(value: Amount) -> float:
    """Return a duration in seconds. Raises `InvalidArgument`."""
    return _amount(value, _SECONDS, "duration")


def size(value: Amount) -> int:
    """Return a size in bytes. Raises `InvalidArgument`."""
    return int(_amount(value, _BYTES, "size"))


def _amount(value: Amount, units: dict[str, float], what: str) -> float:
    found = _AMOUNT.fullmatch(str(value).strip())
    factor = units.get(found[2].lower()) if found else None
    if found is None or factor is None:
        raise InvalidArgument(f"not a {what}: {value!r}")
    return float(found[1]) * factor
