"""A `json` of nothing but the C accelerators, for the processes that one machine has hundreds of.

The standard package brings `re`, `enum`, `functools` and `collections`: a megabyte that a monitor uses for nothing.
`install()` puts this in the place of `json` before anything has imported that; where the interpreter's accelerators are
not what they were (they are internal), it changes nothing.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class JSONDecodeError(ValueError):
    """What is not JSON; raised by the C scanner too, which looks it up in `json.decoder`."""

    def __init__(self, msg: str, doc: str, pos: int) -> None:
        super().__init__(f"{msg}: char {pos}")
        self.msg = msg
        self.doc = doc
        self.pos = pos


class _Context:
    """What the scanner asks of a decoder."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


def _make() -> "tuple[Callable[..., Any], Callable[..., str], dict[str, Any]]":
    import _json

    scan: Callable[..., tuple[Any, int]] = _json.make_scanner(_Context)  # type: ignore[arg-type]
    escapes = _json.encode_basestring_ascii, _json.encode_basestring

    def loads(data: "str | bytes | bytearray") -> "Any":
        """Parse one JSON document, given as text or UTF-8."""
        text = data if isinstance(data, str) else str(data, "utf-8")
        start, end = 0, len(text)
        while start < end and text[start] in " \t\r\n":
            start += 1
        try:
            value, stop = scan(text, start)
        except StopIteration as error:
            raise JSONDecodeError("Expecting value", text, error.value) from None
        if text[stop:].strip(" \t\r\n"):
            raise JSONDecodeError("Extra data", text, stop)
        return value

    def default(value: object) -> object:
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")

    def dumps(
        value: object,
        *,
        separators: "tuple[str, str]" = (", ", ": "),
        ensure_ascii: bool = True,
        sort_keys: bool = False,
    ) -> str:
        """Write a value as JSON."""
        escape = escapes[0] if ensure_ascii else escapes[1]
        encode = _json.make_encoder(None, default, escape, None, separators[1], separators[0], sort_keys, False, True)
        return "".join(encode(value, 0))

    names = {"encode_basestring": escapes[1], "encode_basestring_ascii": escapes[0], "scanstring": _json.scanstring}
    return loads, dumps, names


def install() -> bool:
    """Become `json`, `json.decoder` and `json.encoder`; false where that is not possible (any more)."""
    if "json" in sys.modules:
        return False
    module = type(sys)("json", __doc__)
    module.JSONDecodeError = JSONDecodeError  # type: ignore[attr-defined]
    places = ("json", "json.decoder", "json.encoder")
    sys.modules.update(dict.fromkeys(places, module))
    try:
        loads, dumps, names = _make()
        module.__dict__.update(names, loads=loads, dumps=dumps)
        sample = {"a": [1, -2.5, 'é\n"\\', None, True, {}], "b": {"c": []}}
        if loads(dumps(sample, separators=(",", ":"))) != sample or loads(dumps(sample, ensure_ascii=False)) != sample:
            raise ValueError("the accelerators do something else")
        try:
            loads('{"a":')
        except ValueError:
            return True
        raise ValueError("the scanner takes what is not JSON")
    except (ImportError, AttributeError, TypeError, ValueError):
        for place in places:
            del sys.modules[place]
        return False
