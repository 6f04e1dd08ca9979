"""Times as image documents write them (RFC 3339, up to nanoseconds), and as filters take them."""

import datetime as dt
import re

_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)", re.ASCII)
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
GO_ZERO = -62135596800  # what Docker answers for an image that does not say


def nanoseconds(text: str) -> int | None:
    """Return the Unix time in nanoseconds, or None where `text` is no RFC 3339 time."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    try:
        moment = dt.datetime(year, month, day, hour, minute, min(second, 59), tzinfo=dt.UTC)
    except ValueError:
        return None
    offset = 0
    if match[9]:
        offset = (int(match[10]) * 3600 + int(match[11]) * 60) * (1 if match[9] == "+" else -1)
    fraction = int((match[7] or "").ljust(9, "0"))
    return (int(moment.timestamp()) - offset) * 10**9 + fraction


def shortened(text: str) -> int | None:
    """Return what `nanoseconds` does; a filter's time may lack the zone (then it is UTC), the seconds, or the clock."""
    for full in (text, f"{text}Z", f"{text}:00Z", f"{text}T00:00:00Z"):
        value = nanoseconds(full)
        if value is not None:
            return value
    return None


def seconds(text: str) -> int:
    """Return the Unix time in seconds; Go's zero time where `text` is no time."""
    value = nanoseconds(text)
    return GO_ZERO if value is None else value // 10**9


def moment(text: str, now: float) -> float | None:
    """Return the Unix time that a filter means: seconds, a duration before `now` (`1h30m`), or a time; else None."""
    if re.fullmatch(r"-?\d+(\.\d+)?", text, re.ASCII):
        return float(text)
    if text and not _DURATION.sub("", text):
        return now - sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))
    value = shortened(text)
    return None if value is None else value / 1e9
