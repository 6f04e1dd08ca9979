"""Times as clients parse them: RFC 3339 with nanoseconds, UTC. Inside, times are nanoseconds since the epoch."""

import calendar
import re
import time

from wherry.errors import InvalidArgument
from wherry.wire.durations import human_duration
from wherry.wire.rfc3339 import shortened

ZERO = "0001-01-01T00:00:00Z"


def now() -> int:
    """Nanoseconds since the epoch."""
    return time.time_ns()


def rfc3339(nanoseconds: int) -> str:
    """Format a time; 0 gives Go's zero time. Trailing zeros of the fraction are cut, as Go does."""
    if not nanoseconds:
        return ZERO
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    fraction = f".{rest:09d}".rstrip("0").rstrip(".")
    return f"{whole}{fraction}Z"


def parse_rfc3339(text: str) -> int:
    """Read back what `rfc3339` wrote; Go's zero time gives 0.

    Raises:
        ValueError: it is not of that form.
    """
    if text == ZERO or not text:
        return 0
    whole, _, fraction = text.removesuffix("Z").partition(".")
    seconds = calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S"))
    return seconds * 1_000_000_000 + int(fraction.ljust(9, "0") or 0)


def ago(nanoseconds: int, reference: int) -> str:
    """How long before `reference` a time was, in Docker's words (`5 seconds`, `About a minute`)."""
    return human_duration(max(0, reference - nanoseconds) / 1e9)


_SECONDS = re.compile(r"^(\d+)(?:\.(\d{1,9}))?$")


def parse_time(text: str) -> int | None:
    """Read `1700000000.5`, RFC 3339, or a Go duration before now (`10m`); nanoseconds, None where empty or zero.

    Raises:
        InvalidArgument: none of these.
    """
    if not text or text == "0":
        return None
    found = _SECONDS.match(text)
    if found:
        return int(found[1]) * 1_000_000_000 + int((found[2] or "0").ljust(9, "0"))
    if text == ZERO:
        return 0
    value = shortened(text)
    if value is not None:
        return value
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3}
    parts = re.findall(r"([\d.]+)(ms|h|m|s)", text)
    if not parts or "".join(n + u for n, u in parts) != text:
        raise InvalidArgument(f'failed to parse value as time or duration: "{text}"')
    return int((time.time() - sum(float(n) * units[u] for n, u in parts)) * 1e9)
