"""Which API versions are spoken, and how a path's version prefix is judged."""

from wherry.errors import InvalidArgument

API_VERSION = "1.51"
MIN_API_VERSION = "1.24"
CURRENT = (1, 51)
_OLDEST = (1, 24)

_known: dict[str, tuple[int, ...]] = {f"1.{minor}": (1, minor) for minor in range(_OLDEST[1], CURRENT[1] + 1)}


def parse_version(text: str) -> tuple[int, ...]:
    """Turn the digits and dots of `/v1.41/…` into numbers to compare; missing numbers count as 0.

    Raises:
        InvalidArgument: older than we answer, or newer than we know, in dockerd's words.
    """
    known = _known.get(text)
    if known is not None:
        return known
    # a number of more than nine digits is only ever too new
    numbers = tuple(int(part[:9] or "0") for part in text.split("."))
    if numbers < _OLDEST:
        raise InvalidArgument(
            f"client version {text} is too old. Minimum supported API version is {MIN_API_VERSION}, "
            "please upgrade your client to a newer version"
        )
    if numbers > CURRENT:
        raise InvalidArgument(f"client version {text} is too new. Maximum supported API version is {API_VERSION}")
    return numbers
