"""Sizes as github.com/docker/go-units reads and writes them, in bytes."""

from wherry.values.gotext import quote

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")
_POWERS = "bkmgtp"
_LIMIT = 1 << 63


def human(size: float, digits: int = 4) -> str:
    """Write a size in decimal units with so many significant digits: `HumanSizeWithPrecision`, `4.261MB`."""
    return _written(size, 1000.0, _DECIMAL, digits)


def binary(size: float) -> str:
    """Write a size in binary units: `BytesSize`, `23.54GiB`."""
    return _written(size, 1024.0, _BINARY, 4)


def from_human(text: str) -> int:
    """Return the bytes of `10m` (10,000,000), `1.5GB`, `4096`: `FromHumanSize`, which counts in decimal units.

    Raises:
        ValueError: the text is no size; in go-units' words.
    """
    return _parsed(text, 1000)


def ram_in_bytes(text: str) -> int:
    """Return the bytes of `512m`, `1.5g`, `2GiB`: `RAMInBytes`, which counts in binary units.

    Raises:
        ValueError: the text is no size; in go-units' words.
    """
    return _parsed(text, 1024)


def _written(size: float, base: float, units: "tuple[str, ...]", digits: int) -> str:
    unit = 0
    while size >= base and unit < len(units) - 1:
        size /= base
        unit += 1
    return f"{size:.{digits}g}{units[unit]}"


def _parsed(text: str, base: int) -> int:
    end = len(text)
    while end and text[end - 1] not in "0123456789. ":
        end -= 1
    if end == 0:
        raise ValueError(f"invalid size: '{text}'")
    suffix = text[end:]
    size = _number(text[: end - 1] if text[end - 1] == " " else text[:end])
    if size < 0:
        raise ValueError(f"invalid size: '{text}'")
    if suffix:
        shown = suffix.lower() if len(suffix) <= 3 else suffix
        if shown[0] not in _POWERS or shown[1:] not in ("", "b", "ib") or (shown[0] == "b" and len(shown) > 1):
            raise ValueError(f"invalid suffix: '{shown}'")
        size *= base ** _POWERS.index(shown[0])
    if size >= _LIMIT:  # what Go makes of these depends on the processor
        raise ValueError(f"invalid size: '{text}'")
    return int(size)


def _number(text: str) -> float:
    """`strconv.ParseFloat` for decimal numbers, to 64 bits: Python's grammar without its names and white space."""
    try:
        value = float(text if not text.strip("0123456789.eE+-_") else "")
    except ValueError:
        raise ValueError(f"strconv.ParseFloat: parsing {quote(text)}: invalid syntax") from None
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"strconv.ParseFloat: parsing {quote(text)}: value out of range")
    return value
