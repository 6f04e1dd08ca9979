"""Times: RFC 3339 read and written, and Go's print of a time. Here a time is whole nanoseconds since 1970, in UTC."""

import time

from wherry.values import durations

ZERO = "0001-01-01T00:00:00Z"
"""Go's zero time: it never happened."""
ZERO_SECONDS = -62135596800
_SECOND = 10**9
_MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def parse(text: str) -> int:
    """Return the nanoseconds of an RFC 3339 time.

    Unlike Go it accepts what else RFC 3339 allows: `t`, `z`, a space for the `T`, and a leap second (as second 59).

    Raises:
        ValueError: the text is no such time.
    """
    parts = (text[:4], text[5:7], text[8:10], text[11:13], text[14:16], text[17:19])
    fixed = text[4:5] + text[7:8] + text[13:14] + text[16:17]
    digits = "".join(parts)
    if len(text) < 20 or fixed != "--::" or text[10] not in "Tt " or not (text.isascii() and digits.isdigit()):
        raise _invalid(text)
    year, month, day, hour, minute, second = (int(part) for part in parts)
    if not (1 <= month <= 12 and 1 <= day <= _days_of(year, month) and hour < 24 and minute < 60 and second <= 60):
        raise _invalid(text)
    rest, fraction = text[19:], 0
    if rest[0] == ".":
        end = 1
        while rest[end : end + 1].isdigit():
            end += 1
        if end == 1:
            raise _invalid(text)
        fraction, rest = int(rest[1:end][:9].ljust(9, "0")), rest[end:]
    clock = hour * 3600 + minute * 60 + min(second, 59) - _offset(text, rest)
    return (_days_before(year, month, day) * 86400 + clock) * _SECOND + fraction


def seconds(text: str) -> int:
    """Return the Unix time of an RFC 3339 time; Go's zero time where the text is none."""
    try:
        return parse(text) // _SECOND
    except ValueError:
        return ZERO_SECONDS


def parse_shortened(text: str) -> int:
    """Return what `parse` does for a time that may lack its zone (then it is UTC), its seconds, or its time of day.

    Raises:
        ValueError: the text is no such time.
    """
    for full in (text, f"{text}Z", f"{text}:00Z", f"{text}T00:00:00Z"):
        try:
            return parse(full)
        except ValueError:
            continue
    raise _invalid(text)


def parse_filter(text: str, now: int) -> int:
    """Return the time that a filter names: `1700000000.5`, a duration before `now` (`1h30m`), or a (shortened) time.

    Raises:
        ValueError: the text is none of these.
    """
    whole, point, part = text.removeprefix("-").partition(".")
    if text.isascii() and whole.isdigit() and (part.isdigit() if point else not part):
        value = int(whole[-20:]) * _SECOND + int(part[:9].ljust(9, "0"))
        return -value if text.startswith("-") else value
    try:
        return now - durations.parse(text)
    except ValueError:
        return parse_shortened(text)


def whole(seconds: float) -> str:
    """Write a Unix time without a fraction: `2026-01-02T03:04:05Z`."""
    return _clock(time.gmtime(seconds)) + "Z"


def exact(nanoseconds: int) -> str:
    """Write a time with nine digits, whatever they are: such times sort as text."""
    seconds, rest = divmod(nanoseconds, _SECOND)
    return f"{_clock(time.gmtime(seconds))}.{rest:09d}Z"


def trimmed(nanoseconds: int) -> str:
    """Write a time as Go's `time.RFC3339Nano`: without the fraction's trailing zeros."""
    seconds, rest = divmod(nanoseconds, _SECOND)
    return f"{_clock(time.gmtime(seconds))}{_fraction(rest)}Z"


def local(seconds: int, fraction: str = "") -> str:
    """Write a Unix time as the local one, with its offset; `fraction` is `.123` or nothing."""
    offset, _ = _zone(time.localtime(seconds))
    zone = "Z" if offset == "+0000" else f"{offset[:3]}:{offset[3:]}"
    return f"{_clock(time.localtime(seconds))}{fraction}{zone}"


def printed(nanoseconds: int, *, utc: bool = False) -> str:
    """Write a time as Go's `Time.String`: `2026-11-24 08:18:31.5 +0000 UTC`."""
    seconds, rest = divmod(nanoseconds, _SECOND)
    moment = time.gmtime(seconds) if utc else time.localtime(seconds)
    offset, name = ("+0000", "UTC") if utc else _zone(moment)
    return f"{_clock(moment, ' ')}{_fraction(rest)} {offset} {name}"


def _clock(moment: time.struct_time, between: str = "T") -> str:
    year, month, day, hour, minute, second = moment[:6]
    return f"{year:04}-{month:02}-{day:02}{between}{hour:02}:{minute:02}:{second:02}"


def _fraction(nanoseconds: int) -> str:
    return f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""


def _zone(moment: time.struct_time) -> "tuple[str, str]":
    """The offset and name of a local time's zone: `+0200`, `CEST`."""
    minutes = abs(moment.tm_gmtoff) // 60
    return f"{'-' if moment.tm_gmtoff < 0 else '+'}{minutes // 60:02d}{minutes % 60:02d}", moment.tm_zone


def _offset(text: str, zone: str) -> int:
    """Seconds that a zone (`Z`, `+02:00`) is ahead of UTC."""
    if zone in ("Z", "z"):
        return 0
    digits = zone[1:3] + zone[4:]
    if len(zone) != 6 or zone[0] not in "+-" or zone[3] != ":" or not digits.isdigit():
        raise _invalid(text)
    hours, minutes = int(digits[:2]), int(digits[2:])
    if hours > 24 or minutes > 60:  # Go's bounds
        raise _invalid(text)
    return (hours * 60 + minutes) * (60 if zone[0] == "+" else -60)


def _days_of(year: int, month: int) -> int:
    leap = month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return _MONTH_DAYS[month - 1] + leap


def _days_before(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 to a date of the Gregorian calendar."""
    # a year that begins in March has its leap day at its end
    year -= month <= 2
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return 365 * year + year // 4 - year // 100 + year // 400 + of_year - 719468


def _invalid(text: str) -> ValueError:
    return ValueError(f"not a timestamp: {text}")
