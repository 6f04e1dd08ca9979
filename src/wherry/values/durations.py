"""Durations: Go's (`1m30.5s`) read and written, in nanoseconds, and the rough words of Docker's tables."""

import time

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_LIMIT = 1 << 63


def parse(text: str) -> int:
    """Return the nanoseconds of a duration: Go's `time.ParseDuration`.

    Raises:
        ValueError: the text is no duration, or one of more than 63 bits; in Go's words.
    """
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    total = 0 if rest else _LIMIT + 1
    while rest and total <= _LIMIT:
        whole = _digits(rest)
        rest = rest[len(whole) :]
        fraction = _digits(rest[1:]) if rest[:1] == "." else ""
        rest = rest[1 + len(fraction) :] if rest[:1] == "." else rest
        if not (whole or fraction) or len(whole.lstrip("0")) > 19:
            raise _invalid(text)
        name = _unit(rest)
        if not name:
            raise ValueError(f"time: missing unit in duration {_quoted(text)}")
        if name not in _UNITS:
            raise ValueError(f"time: unknown unit {_quoted(name)} in duration {_quoted(text)}")
        rest = rest[len(name) :]
        total += int(whole.lstrip("0") or "0") * _UNITS[name] + _part(fraction, _UNITS[name])
    if total > _LIMIT or (total == _LIMIT and not text.startswith("-")):
        raise _invalid(text)
    return -total if text.startswith("-") else total


def printed(nanoseconds: int) -> str:
    """Write a duration as Go's `Duration.String`: `1m30.5s`, `500ms`, `0s`."""
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if 0 < rest < 10**9:
        unit, name = (10**6, "ms") if rest >= 10**6 else (10**3, "µs") if rest >= 10**3 else (1, "ns")
        return f"{sign}{_decimal(rest, unit)}{name}"
    minutes, rest = divmod(rest, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    before = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{before}{_decimal(rest, 10**9)}s"


def human(seconds: float) -> str:
    """Say how long, roughly, as go-units' `HumanDuration`: `About a minute`, `3 hours`, `2 weeks`."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = whole // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / 3600) // 24 // 365} years"


def ago(timestamp: float) -> str:
    """Say how long ago a Unix time was, roughly: `3 hours ago`."""
    return f"{human(time.time() - timestamp)} ago"


def _digits(text: str) -> str:
    end = 0
    while end < len(text) and text[end] in "0123456789":
        end += 1
    return text[:end]


def _unit(text: str) -> str:
    end = 0
    while end < len(text) and text[end] not in "0123456789.":
        end += 1
    return text[:end]


def _part(fraction: str, unit: int) -> int:
    """A fraction of a unit, computed in floating point as Go does, from as many digits as 63 bits hold."""
    digits = fraction[:18]
    if len(fraction) > 18 and int(digits) <= (_LIMIT - 1) // 10 and int(fraction[:19]) <= _LIMIT:
        digits = fraction[:19]
    return int(float(int(digits)) * (unit / float(10 ** len(digits)))) if digits else 0


def _decimal(value: int, unit: int) -> str:
    """A whole number of a thousandth, millionth… of `unit`, exactly: a float would round it."""
    whole, rest = divmod(value, unit)
    digits = len(str(unit)) - 1
    return f"{whole}.{rest:0{digits}d}".rstrip("0").rstrip(".") if rest else str(whole)


def _invalid(text: str) -> ValueError:
    return ValueError(f"time: invalid duration {_quoted(text)}")


def _quoted(text: str) -> str:
    """As the `time` package quotes: what is not printable ASCII byte by byte, unlike `strconv.Quote`."""
    pieces = []
    for char in text:
        if char < " " or char > "\x7f":
            pieces += [f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape")]
        else:
            pieces.append(f"\\{char}" if char in '"\\' else char)
    return f'"{"".join(pieces)}"'
