"""Times as clients parse them: RFC 3339 with nanoseconds, UTC. Inside, times are nanoseconds since the epoch."""

import time

from wherry.errors import InvalidArgument
from wherry.values import durations, times

ZERO = times.ZERO


def now() -> int:
    """Nanoseconds since the epoch."""
    return time.time_ns()


def rfc3339(nanoseconds: int) -> str:
    """Format a time; 0 gives Go's zero time. Trailing zeros of the fraction are cut, as Go does."""
    return times.trimmed(nanoseconds) if nanoseconds else ZERO


def parse_rfc3339(text: str) -> int:
    """Read back what `rfc3339` wrote; Go's zero time gives 0.

    Raises:
        ValueError: it is not of that form.
    """
    return times.parse(text) if text and text != ZERO else 0


def ago(nanoseconds: int, reference: int) -> str:
    """How long before `reference` a time was, in Docker's words (`5 seconds`, `About a minute`)."""
    return durations.human(max(0, reference - nanoseconds) / 1e9)


def parse_time(text: str) -> int | None:
    """Read `1700000000.5`, RFC 3339, or a Go duration before now (`10m`); nanoseconds, None where empty or zero.

    Raises:
        InvalidArgument: none of these.
    """
    if not text or text == "0":
        return None
    if text == ZERO:
        return 0
    try:
        return times.parse_filter(text, time.time_ns())
    except ValueError:
        raise InvalidArgument(f'failed to parse value as time or duration: "{text}"') from None
