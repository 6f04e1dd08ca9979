"""The functions of templates: Go's own, and those that Docker adds. name → (function, least, most arguments)."""

from wherry.cli.govalues import NO_VALUE, is_true, shown, to_json, type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class CallError(Exception):
    """A function's own complaint, in Go's words."""


def _index(value: "Any", *keys: "Any") -> "Any":
    for key in keys:
        if isinstance(value, list):
            if not isinstance(key, int) or isinstance(key, bool):
                raise CallError(f"cannot index slice/array with type {type_name(key)}")
            if not 0 <= key < len(value):
                raise CallError(f"index out of range: {key}")
            value = value[key]
        elif isinstance(value, dict):
            if not isinstance(key, str):
                raise CallError(f"value has type {type_name(key)}; should be string")
            value = value.get(key, _zero(value))
        elif isinstance(value, str):
            if not 0 <= key < len(value.encode()):
                raise CallError(f"index out of range: {key}")
            value = value.encode()[key]
        elif value is None or value is NO_VALUE:
            raise CallError("index of untyped nil")
        else:
            raise CallError(f"can't index item of type {type_name(value)}")
    return value


def _zero(values: "dict[str, Any]") -> "Any":
    """What Go finds at a key that is not there: the zero of the map's element type."""
    sample = next(iter(values.values()), None)
    if isinstance(sample, bool):
        return False
    return {str: "", int: 0, float: 0.0, list: [], dict: {}}.get(type(sample), "" if sample is None else None)


def _length(value: "Any") -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, (list, dict)):
        return len(value)
    if value is None or value is NO_VALUE:
        raise CallError("len of nil pointer")
    raise CallError(f"len of type {type_name(value)}")


def _slice(value: "Any", *bounds: int) -> "Any":
    if not isinstance(value, (str, list)):
        raise CallError(f"can't slice item of type {type_name(value)}")
    data = value.encode() if isinstance(value, str) else value
    start = bounds[0] if bounds else 0
    end = bounds[1] if len(bounds) > 1 else len(data)
    for bound in (start, end):
        if not 0 <= bound <= len(data):
            raise CallError(f"index out of range: {bound}")
    if start > end:
        raise CallError(f"invalid slice index: {start} > {end}")
    return data[start:end].decode("utf-8", "replace") if isinstance(data, bytes) else data[start:end]


def _kind(value: "Any") -> str:
    if isinstance(value, bool):
        return "bool"
    return {int: "int", float: "float", str: "string", type(None): "nil"}.get(type(value), "")


def _equal(first: "Any", *others: "Any") -> bool:
    for other in others:
        kind, wanted = _kind(first), _kind(other)
        if not kind or not wanted:
            raise CallError("non-comparable type")
        if "nil" in (kind, wanted):
            if kind == wanted:
                return True
            continue
        if kind != wanted:
            raise CallError("incompatible types for comparison")
        if first == other:
            return True
    return False


def _less(first: "Any", second: "Any") -> bool:
    kind = _kind(first)
    if kind not in ("int", "float", "string"):
        raise CallError("invalid type for comparison")
    if kind != _kind(second):
        raise CallError("incompatible types for comparison")
    return bool(first < second)


def _join(values: "Any", separator: str) -> str:
    if values is None:
        return ""
    if not isinstance(values, list):
        raise TypeError("expected []string")
    return separator.join(shown(value) for value in values)


def _title(text: str) -> str:
    # the first letter of each word only; the rest stays
    return "".join(
        c.upper() if index == 0 or not (text[index - 1].isalnum() or text[index - 1] in "_'") else c
        for index, c in enumerate(text)
    )


def _truncate(text: str, limit: int) -> str:
    return text if len(text) < limit else text[:limit]


def _print(*values: "Any") -> str:
    # a space between operands when neither is a string
    pieces: list[str] = []
    for index, value in enumerate(values):
        if index and not isinstance(value, str) and not isinstance(values[index - 1], str):
            pieces.append(" ")
        pieces.append(shown(value))
    return "".join(pieces)


def _println(*values: "Any") -> str:
    return " ".join(shown(value) for value in values) + "\n"


def _printf(text: str, *values: "Any") -> str:
    pieces: list[str] = []
    used = position = 0
    while position < len(text):
        if text[position] != "%":
            end = text.find("%", position)
            end = len(text) if end < 0 else end
            pieces.append(text[position:end])
            position = end
            continue
        end = position + 1
        while end < len(text) and text[end] in "+-# 0123456789.*":
            end += 1
        verb = text[end : end + 1]
        options = text[position + 1 : end]
        position = end + 1
        if verb == "%":
            pieces.append("%")
            continue
        if not verb:
            pieces.append("%!(NOVERB)")
            continue
        if used >= len(values):
            pieces.append(f"%!{verb}(MISSING)")
            continue
        pieces.append(_formatted(verb, options, values[used]))
        used += 1
    if used < len(values):
        extra = ", ".join(f"{type_name(value)}={shown(value)}" for value in values[used:])
        pieces.append(f"%!(EXTRA {extra})")
    return "".join(pieces)


def _formatted(verb: str, options: str, value: "Any") -> str:
    from wherry.values.gotext import quote as quoted

    flags = options.lstrip("")
    width, _, precision = flags.lstrip("+-# 0").partition(".")
    zero = flags[:1] == "0" or flags[:2] in ("-0", "+0")
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if verb in "vs":
        text = shown(value)
        if precision and verb == "s":
            text = text[: int(precision)]
    elif verb == "q":
        text = quoted(value) if isinstance(value, str) else "[" + " ".join(quoted(str(item)) for item in value) + "]"
    elif verb == "t" and isinstance(value, bool):
        text = shown(value)
    elif verb in "dxXob" and number and isinstance(value, int):
        text = format(value, verb)
    elif verb in "xX" and isinstance(value, str):
        text = value.encode().hex() if verb == "x" else value.encode().hex().upper()
    elif verb == "c" and isinstance(value, int):
        text = chr(value)
    elif verb in "feEgG" and isinstance(value, float):
        text = format(value, f".{precision or '6'}{verb}") if verb in "feE" or precision else shown(value)
    elif verb == "T":
        text = type_name(value)
    else:
        text = f"%!{verb}({type_name(value)}={shown(value)})"
    if "+" in flags and number and not text.startswith("-"):
        text = f"+{text}"
    if not width:
        return text
    if "-" in flags:
        return text.ljust(int(width))
    return text.zfill(int(width)) if zero and number else text.rjust(int(width))


def _html(*values: "Any") -> str:
    text = _print(*values)
    for character, entity in (("&", "&amp;"), ("'", "&#39;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&#34;")):
        text = text.replace(character, entity)
    return text


def _text(function: "Callable[[str], Any]") -> "Callable[[Any], Any]":
    def call(value: "Any") -> "Any":
        if not isinstance(value, str):
            raise TypeError("expected string")
        return function(value)

    return call


def _split(text: str, separator: str) -> "list[str]":
    return text.split(separator) if separator else list(text)


def _urlquery(*values: "Any") -> str:
    from wherry.client.http import quote

    return quote(_print(*values)).replace("%20", "+")


FUNCTIONS: "dict[str, tuple[Callable[..., Any], int, int | None]]" = {
    "and": (lambda *values: values[-1], 1, None),
    "or": (lambda *values: values[-1], 1, None),
    "not": (lambda value: not is_true(value), 1, 1),
    "len": (_length, 1, 1),
    "index": (_index, 1, None),
    "slice": (_slice, 1, 3),
    "eq": (_equal, 2, None),
    "ne": (lambda first, second: not _equal(first, second), 2, 2),
    "lt": (_less, 2, 2),
    "le": (lambda first, second: _less(first, second) or _equal(first, second), 2, 2),
    "gt": (lambda first, second: not (_less(first, second) or _equal(first, second)), 2, 2),
    "ge": (lambda first, second: not _less(first, second), 2, 2),
    "print": (_print, 0, None),
    "println": (_println, 0, None),
    "printf": (_printf, 1, None),
    "html": (_html, 0, None),
    "urlquery": (_urlquery, 0, None),
    "json": (to_json, 1, 1),
    "split": (_split, 2, 2),
    "join": (_join, 2, 2),
    "lower": (_text(str.lower), 1, 1),
    "upper": (_text(str.upper), 1, 1),
    "title": (_text(_title), 1, 1),
    "pad": (lambda text, before, after: " " * before + text + " " * after if text else text, 3, 3),
    "truncate": (_truncate, 2, 2),
}
