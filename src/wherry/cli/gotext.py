"""Small things that must look as Go prints them: quoted strings, numbers, durations, truth values."""

_ESCAPES = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))


def quoted(text: str) -> str:
    """`%q` of a string."""
    pieces = []
    for character in text:
        code = ord(character)
        if code in _ESCAPES:
            pieces.append(_ESCAPES[code])
        elif 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8
            pieces.append(f"\\x{code - 0xDC00:02x}")
        elif character.isprintable():
            pieces.append(character)
        elif code < 0x80:
            pieces.append(f"\\x{code:02x}")
        elif code < 0x10000:
            pieces.append(f"\\u{code:04x}")
        else:
            pieces.append(f"\\U{code:08x}")
    return '"' + "".join(pieces) + '"'


def parse_bool(text: str) -> bool:
    """`strconv.ParseBool`. Raises `ValueError` in its words."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"strconv.ParseBool: parsing {quoted(text)}: invalid syntax")


def parse_int(text: str, bits: int = 64, *, unsigned: bool = False) -> int:
    """`strconv.ParseInt` or `ParseUint` with base 0. Raises `ValueError` in their words."""
    call = "strconv.ParseUint" if unsigned else "strconv.ParseInt"
    failure = f"{call}: parsing {quoted(text)}: "
    digits = text[1:] if text[:1] in ("+", "-") and not unsigned else text
    base = 10
    if digits[:1] == "0" and len(digits) > 1:
        base = {"x": 16, "X": 16, "b": 2, "B": 2, "o": 8, "O": 8}.get(digits[1], 8)
    body = digits[2:] if base != 10 and not digits[1].isdigit() else digits
    if not body.isascii() or not body.replace("_", "").isalnum() or (base == 10 and "_" in body):
        raise ValueError(failure + "invalid syntax")
    try:
        value = int(body.replace("_", ""), base)
    except ValueError:
        raise ValueError(failure + "invalid syntax") from None
    if text.startswith("-"):
        value = -value
    low, high = (0, (1 << bits) - 1) if unsigned else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    if not low <= value <= high:
        raise ValueError(failure + "value out of range")
    return value


_DURATIONS = {
    "ns": 1,
    "us": 1000,
    "µs": 1000,
    "μs": 1000,
    "ms": 1000**2,
    "s": 1000**3,
    "m": 60 * 1000**3,
    "h": 3600 * 1000**3,
}


def parse_duration(text: str) -> int:
    """`time.ParseDuration`, in nanoseconds. Raises `ValueError` in its words."""
    invalid = ValueError(f"time: invalid duration {quoted(text)}")
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    if not rest:
        raise invalid
    total = 0
    while rest:
        number = 0
        while number < len(rest) and (rest[number].isdigit() or rest[number] == "."):
            number += 1
        unit = number
        while unit < len(rest) and not (rest[unit].isdigit() or rest[unit] == "."):
            unit += 1
        whole, _, part = rest[:number].partition(".")
        if not (whole or part) or "." in part or not (whole + part).isascii():
            raise invalid
        if unit == number:
            raise ValueError(f"time: missing unit in duration {quoted(text)}")
        scale = _DURATIONS.get(rest[number:unit])
        if scale is None:
            raise ValueError(f"time: unknown unit {quoted(rest[number:unit])} in duration {quoted(text)}")
        total += int(whole or "0") * scale + (int(part) * scale // 10 ** len(part) if part else 0)
        rest = rest[unit:]
    return -total if text.startswith("-") else total
