"""JSON for a process that lives for twenty milliseconds.

The `json` package imports `re`, which costs as much as the interpreter itself. Its C half does not, so it is used
directly here; where an interpreter has no C half, `json` is imported after all. Errors are `ValueError`.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _ScanContext:
    """What the C scanner reads its options from."""

    strict = False
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    memo: "dict[str, str]" = {}  # noqa: RUF012 - the scanner wants a plain attribute

    @staticmethod
    def parse_constant(name: str) -> float:
        raise ValueError(f"invalid JSON number: {name}")


def _no_default(value: object) -> object:
    raise TypeError(f"not a JSON value: {type(value).__name__}")


try:
    import _json

    _scan: "Any" = _json.make_scanner(_ScanContext())  # type: ignore[arg-type]
    _encode: "Any" = _json.make_encoder(None, _no_default, _json.encode_basestring, None, ":", ",", False, False, False)
except (ImportError, AttributeError, TypeError):  # an interpreter without the C half
    _scan = _encode = None


def loads(data: "bytes | str") -> "Any":
    """Decode one JSON document. Raises `ValueError` when it is not one."""
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    if _scan is None:
        import json

        return json.loads(text)
    start = 0
    while text[start : start + 1] in _SPACE:
        start += 1
    try:
        value, end = _scan(text, start)
    except StopIteration:
        raise ValueError("invalid JSON") from None
    if text[end:].strip():
        raise ValueError("data after the JSON document")
    return value


_SPACE = (" ", "\n", "\r", "\t")


def dumps(value: "Any") -> str:
    """Encode compactly, keys in their order, text beyond ASCII as it is."""
    if _encode is None:
        import json

        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return "".join(_encode(value, 0))
