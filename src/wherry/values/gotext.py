"""Text as Go's `strconv` and `unicode` have it: quoted strings, truth values, integers, white space.

Bytes that are not UTF-8 are surrogates in Python's strings (`surrogateescape`), and `\\xNN` in Go's.
"""

SPACE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
"""What `unicode.IsSpace` accepts; Python's `str.isspace` counts four more control characters."""

TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))

_ESCAPES = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
_NAMED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}
_HEXADECIMAL = {"x": 2, "u": 4, "U": 8}


def quote(text: str) -> str:
    """Write a string in double quotes: `strconv.Quote`, and `%q`."""
    pieces = ['"']
    for char in text:
        code = ord(char)
        if code in _ESCAPES:
            pieces.append(_ESCAPES[code])
        elif 0xDC80 <= code <= 0xDCFF:
            pieces.append(f"\\x{code - 0xDC00:02x}")
        elif char.isprintable():
            pieces.append(char)
        elif code < 0x80:
            pieces.append(f"\\x{code:02x}")
        else:
            pieces.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    pieces.append('"')
    return "".join(pieces)


def quote_list(texts: "list[str] | tuple[str, ...]") -> str:
    """Write a slice of strings as `%q` does: `["a" "b"]`."""
    return "[" + " ".join(quote(text) for text in texts) + "]"


def unquote(text: str) -> str:
    """Read a string literal in double or back quotes, or a character's in single ones: `strconv.Unquote`.

    Raises:
        ValueError: the text is no literal.
    """
    mark, body = text[:1], text[1:-1]
    if len(text) < 2 or mark not in ('"', "'", "`") or text[-1] != mark:
        raise ValueError("invalid syntax")
    if mark == "`":
        if mark in body:
            raise ValueError("invalid syntax")
        return body.replace("\r", "")
    pieces: list[str] = []
    position = 0
    while position < len(body):
        char = body[position]
        if char in (mark, "\n"):
            raise ValueError("invalid syntax")
        if char == "\\":
            char, length = _escaped(body[position + 1 : position + 10], mark)
            position += length
        pieces.append(char)
        position += 1
    if mark == "'" and len(pieces) > 1:
        raise ValueError("invalid syntax")
    return "".join(pieces).encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def _escaped(rest: str, mark: str) -> "tuple[str, int]":
    """The character that an escape stands for, and the escape's length; `rest` follows the backslash."""
    kind = rest[:1]
    if kind in _NAMED or (kind and kind == mark):
        return _NAMED.get(kind, kind), 1
    length = _HEXADECIMAL.get(kind, 0)
    digits = rest[1 : 1 + length] if length else rest[:3]
    if len(digits) != (length or 3) or digits.strip("0123456789abcdefABCDEF" if length else "01234567"):
        raise ValueError("invalid syntax")
    code = int(digits, 16 if length else 8)
    is_byte = kind == "x" or not length
    if code > (0xFF if is_byte else 0x10FFFF) or 0xD800 <= code <= 0xDFFF:
        raise ValueError("invalid syntax")
    return chr(code + 0xDC00 if is_byte and code >= 0x80 else code), (1 + length if length else 3)


def parse_bool(text: str) -> bool:
    """Read a truth value: `strconv.ParseBool`.

    Raises:
        ValueError: the text is none; in Go's words.
    """
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise ValueError(f"strconv.ParseBool: parsing {quote(text)}: invalid syntax")


def parse_int(text: str, bits: int = 64, *, unsigned: bool = False) -> int:
    """Read an integer of any base: `strconv.ParseInt` or `ParseUint` with base 0.

    Raises:
        ValueError: the text is none, or one of more bits; in Go's words.
    """
    failure = f"strconv.{'ParseUint' if unsigned else 'ParseInt'}: parsing {quote(text)}: "
    digits = text[1:] if text[:1] in ("+", "-") and not unsigned else text
    base = 10
    if digits[:1] == "0" and len(digits) > 1:
        base = {"x": 16, "X": 16, "b": 2, "B": 2, "o": 8, "O": 8}.get(digits[1], 8)
    body = digits[2:] if base != 10 and digits[1] in "xXbBoO" else digits
    # single underscores may stand between digits, and behind a prefix
    prefixed = body if base == 10 else f"0{body}"
    if not body.isascii() or "__" in prefixed or prefixed.startswith("_") or body.endswith("_"):
        raise ValueError(failure + "invalid syntax")
    body = body.replace("_", "")
    if not body.isalnum() or any(int(char, 36) >= base for char in body):
        raise ValueError(failure + "invalid syntax")
    value = int(body.lstrip("0")[:80] or "0", base)
    if text.startswith("-"):
        value = -value
    low, high = (0, (1 << bits) - 1) if unsigned else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    if not low <= value <= high:
        raise ValueError(failure + "value out of range")
    return value
