"""How Go writes and reads simple values: BuildKit's messages and option values are interface, and they are Go's.

Every function is pure. `quote` is `%q` of Go's fmt package, `SPACE` is what its `unicode.IsSpace` accepts.
"""

import re
from collections.abc import Collection

from wherry.errors import InvalidArgument

SPACE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
"""White space by Unicode's property; Python's `str.isspace` counts four more control characters."""

_ESCAPES = {
    "\a": r"\a",
    "\b": r"\b",
    "\f": r"\f",
    "\n": r"\n",
    "\r": r"\r",
    "\t": r"\t",
    "\v": r"\v",
    "\\": r"\\",
    '"': r"\"",
}
_TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_DURATION_PART = re.compile(r"(\d*)(\.\d*)?([^\d.]+)", re.ASCII)
_MAX_INT64 = 2**63 - 1

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+) ?([kKmMgGtTpP])?[iI]?[bB]?")


def quote(text: str) -> str:
    """`text` in double quotes with Go's escapes; bytes that are no UTF-8 (surrogates here) as `\\xNN`."""
    out = ['"']
    for char in text:
        code = ord(char)
        if char in _ESCAPES:
            out.append(_ESCAPES[char])
        elif 0xDC80 <= code <= 0xDCFF:
            out.append(f"\\x{code - 0xDC00:02x}")
        elif char == " " or char.isprintable():
            out.append(char)
        elif code < 0x80:
            out.append(f"\\x{code:02x}")
        elif code < 0x10000:
            out.append(f"\\u{code:04x}")
        else:
            out.append(f"\\U{code:08x}")
    out.append('"')
    return "".join(out)


def quote_list(texts: "list[str] | tuple[str, ...]") -> str:
    """`%q` of a slice of strings: `["a" "b"]`."""
    return "[" + " ".join(quote(text) for text in texts) + "]"


def parse_bool(text: str) -> bool:
    """Go's `strconv.ParseBool`; ValueError for anything else."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(text)


def parse_duration(text: str) -> int:
    """Nanoseconds of a duration as Go writes it (`1h2m3.5s`).

    Raises:
        InvalidArgument: with the words of Go's `time.ParseDuration`.
    """
    rest, sign = text, 1
    if rest[:1] in ("-", "+"):
        sign = -1 if rest[0] == "-" else 1
        rest = rest[1:]
    if rest == "0":
        return 0
    if not rest:
        raise InvalidArgument(f"time: invalid duration {quote(text)}")
    total, position = 0, 0
    while position < len(rest):
        match = _DURATION_PART.match(rest, position)
        if match is None or not (match[1] or (match[2] or "")[1:]):
            missing = re.fullmatch(r"\d+\.?\d*|\.\d+", rest[position:], re.ASCII)
            raise InvalidArgument(f"time: {'missing unit in' if missing else 'invalid'} duration {quote(text)}")
        unit = _UNITS.get(match[3])
        if unit is None:
            raise InvalidArgument(f"time: unknown unit {quote(match[3])} in duration {quote(text)}")
        fraction = (match[2] or ".")[1:19]
        if len(match[1]) > 19:
            raise InvalidArgument(f"time: invalid duration {quote(text)}")
        total += int(match[1] or "0") * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)
        if total > _MAX_INT64:
            raise InvalidArgument(f"time: invalid duration {quote(text)}")
        position = match.end()
    return sign * total


def parse_size(text: str) -> int:
    """Bytes of `64m`, `1.5GiB`, `4096`; binary multiples, as Docker's memory flags. ValueError for anything else."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"invalid size: {quote(text)}")
    power = " KMGTP".index((match[2] or " ").upper())
    whole, _, fraction = match[1].partition(".")
    if len(whole) > 19:
        raise ValueError(f"invalid size: {quote(text)}")
    scale = 1 << 10 * power
    size = int(whole or "0") * scale
    if fraction:
        size += int(fraction[:18]) * scale // int("1" + "0" * len(fraction[:18]))
    if size > _MAX_INT64:
        raise ValueError(f"invalid size: {quote(text)}")
    return size


def suggest(word: str, options: Collection[str], *, case_sensitive: bool = True) -> str:
    """The option that `word` probably meant (at most two letters off), or "" when none is near or one is equal."""
    wanted = word if case_sensitive else word.lower()
    best, found = 3, ""
    if len(wanted) > 200 or len(options) > 300:
        return ""  # a hint is not worth that much time
    for option in options:
        candidate = option if case_sensitive else option.lower()
        if candidate == wanted:
            return ""
        if abs(len(candidate) - len(wanted)) < best:
            distance = _distance(wanted, candidate)
            if distance < best:
                best, found = distance, candidate
    if found and not case_sensitive:
        if word == word.lower():
            return found.lower()
        if word == word.upper():
            return found.upper()
    return found


def did_you_mean(message: str, word: str, options: Collection[str], *, case_sensitive: bool = True) -> str:
    """`message` with BuildKit's hint when `word` is near one of `options`."""
    match = suggest(word, options, case_sensitive=case_sensitive)
    return f"{message} (did you mean {match}?)" if match else message


def _distance(left: str, right: str) -> int:
    previous = list(range(len(right) + 1))
    for row, a in enumerate(left, 1):
        current = [row]
        for column, b in enumerate(right, 1):
            current.append(min(previous[column] + 1, current[-1] + 1, previous[column - 1] + (a != b)))
        previous = current
    return previous[-1]
