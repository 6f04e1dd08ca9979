"""Sizes and ages in the words of Docker's go-units, and the timestamps that they are computed from."""

import time

from wherry.values.durations import human as human_duration

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")
_POWERS = "bkmgtp"
NEVER = "0001-01-01T00:00:00Z"


def significant(value: float, digits: int) -> str:
    """Go's `%.*g`, for numbers that need no exponent."""
    return f"{value:.{digits}g}" if value < 10**digits else str(round(value))


def human_size(size: float, digits: int = 4) -> str:
    """Decimal units: `4.261MB`; `digits` significant ones."""
    unit = 0
    while size >= 1000.0 and unit < len(_DECIMAL) - 1:
        size /= 1000.0
        unit += 1
    return f"{significant(size, digits)}{_DECIMAL[unit]}"


def bytes_size(size: float) -> str:
    """Binary units: `23.54GiB`."""
    unit = 0
    while size >= 1024.0 and unit < len(_BINARY) - 1:
        size /= 1024.0
        unit += 1
    return f"{significant(size, 4)}{_BINARY[unit]}"


def parse_ram(text: str) -> int:
    """`512m`, `1.5g`, `2GiB`: bytes, in binary units. Raises `ValueError` in go-units' words."""
    from wherry.cli.gotext import quoted

    end = len(text)
    while end and text[end - 1] not in "0123456789. ":
        end -= 1
    if end == 0:
        raise ValueError(f"invalid size: '{text}'")
    number, suffix = text[:end], text[end:].lower()
    if number.endswith(" "):
        number = number[:-1]
    try:
        if not number.replace(".", "", 1).lstrip("+-").isdigit():
            raise ValueError
        value = float(number)
    except ValueError:
        raise ValueError(f"strconv.ParseFloat: parsing {quoted(number)}: invalid syntax") from None
    if value < 0:
        raise ValueError(f"invalid size: '{text}'")
    if not suffix:
        return int(value)
    if suffix[0] not in _POWERS or suffix[1:] not in ("", "b", "ib") or (suffix[0] == "b" and len(suffix) > 1):
        raise ValueError(f"invalid suffix: '{suffix}'")
    return int(value * 1024 ** _POWERS.index(suffix[0]))


def ago(timestamp: float) -> str:
    """A past moment in words; "N/A" for no moment at all."""
    return f"{human_duration(time.time() - timestamp)} ago"


def days_from_civil(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 in the Gregorian calendar."""
    year -= month <= 2
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


def parse_time(text: str) -> "tuple[int, int]":
    """An RFC 3339 timestamp: (seconds since the epoch, nanoseconds). Raises `ValueError`."""
    if len(text) < 20 or text[10] not in "Tt ":
        raise ValueError(f"not a timestamp: {text}")
    rest = text[19:]
    nanoseconds = 0
    if rest[0] == ".":
        end = 1
        while end < len(rest) and rest[end].isdigit():
            end += 1
        nanoseconds = int(rest[1:end][:9].ljust(9, "0"))
        rest = rest[end:]
    offset = 0
    if rest not in ("Z", "z"):
        if len(rest) != 6 or rest[0] not in "+-" or rest[3] != ":":
            raise ValueError(f"not a timestamp: {text}")
        offset = (int(rest[1:3]) * 60 + int(rest[4:6])) * (60 if rest[0] == "+" else -60)
    days = days_from_civil(int(text[:4]), int(text[5:7]), int(text[8:10]))
    return days * 86400 + int(text[11:13]) * 3600 + int(text[14:16]) * 60 + int(text[17:19]) - offset, nanoseconds


def local_zone(seconds: float) -> "tuple[str, str]":
    """The offset and name of local time at a moment: ("+0200", "CEST")."""
    moment = time.localtime(seconds)
    offset = moment.tm_gmtoff
    sign = "-" if offset < 0 else "+"
    return f"{sign}{abs(offset) // 3600:02d}{abs(offset) % 3600 // 60:02d}", moment.tm_zone


def go_time(seconds: int, nanoseconds: int = 0, *, utc: bool = False) -> str:
    """A moment as Go prints one: `2026-11-24 08:18:31.5 +0000 UTC`."""
    moment = time.gmtime(seconds) if utc else time.localtime(seconds)
    offset, name = ("+0000", "UTC") if utc else local_zone(seconds)
    fraction = f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', moment)}{fraction} {offset} {name}"


def rfc3339(seconds: int) -> str:
    """A moment in local time: `2026-11-24T08:15:56Z`, or with its offset."""
    offset, _ = local_zone(seconds)
    zone = "Z" if offset == "+0000" else f"{offset[:3]}:{offset[3:]}"
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds)) + zone
