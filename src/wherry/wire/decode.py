"""Reading a request's JSON as Go's decoder would: what dockerd forgives is forgiven, what it refuses is refused.

- null is the same as absent for a key of a struct, and the zero value as an item;
- a key is taken in any case when none fits exactly (docker-py sends `detachKeys`);
- an integer must fit 64 bits; unknown and repeated keys are no error;
- errors have the words of Go's `encoding/json`, as far as clients show them.
"""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from wherry.errors import InvalidArgument

T = TypeVar("T")
Fixer = Callable[[Any], Any]

_INT64 = 1 << 63
_MAX_DEPTH = 200  # the decoder's own limit is another one in each version of Python
_MAX_VALUES = 200_000  # nothing else works while the decoder does; commas inside strings count too
_GO_KIND = {"int": "number", "float": "number", "str": "string", "array": "array", "object": "object"}
_GO_TYPE = {"str": "string", "int": "int64", "float": "float64", "array": "[]string", "object": "map[string]string"}
_TYPE_ERROR = re.compile(r"Expected `([^`]+)`, got `([^`]+)`(?: - at `\$([^`]*)`)?")

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))

_fixers: dict[Any, Fixer | None] = {}


def decode(raw: bytes, type_: type[T]) -> T | None:
    """Decode a request body into a Struct; None for a body of `null`.

    Raises:
        InvalidArgument: no JSON, more than one value, a wrong type; in dockerd's words.
    """
    if not raw.strip(b" \t\r\n"):
        raise InvalidArgument("invalid JSON: got EOF while reading request body")
    try:
        if raw.count(b",") + raw.count(b"[") + raw.count(b"{") > _MAX_VALUES:
            raise InvalidArgument(f"invalid JSON: more than {_MAX_VALUES} values")
        if _depth(raw) > _MAX_DEPTH:
            raise InvalidArgument("invalid JSON: exceeded max depth")
        value = msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise InvalidArgument(_syntax_error(raw, str(error))) from None
    if value is None:
        return None
    fixer = _fixer_of(type_)
    try:
        return msgspec.convert(fixer(value) if fixer else value, type_)
    except msgspec.ValidationError as error:
        raise InvalidArgument(_type_error(type_, str(error))) from None


def _depth(raw: bytes) -> int:
    """How deep arrays and objects lie in one another; 0 where there are too few of them to matter."""
    if raw.count(b"[") + raw.count(b"{") <= _MAX_DEPTH:
        return 0
    depth = deepest = 0
    for byte in _STRING.sub(b"", raw).translate(None, _NO_BRACKETS):
        depth += 1 if byte in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _syntax_error(raw: bytes, text: str) -> str:
    if "truncated" in text:
        return "invalid JSON: unexpected EOF"
    if "trailing" in text:
        return "unexpected content after JSON"
    at = re.search(r"\(byte (\d+)\)", text)
    if at and int(at[1]) < len(raw):
        character = chr(raw[int(at[1])])
        return f"invalid JSON: invalid character {character!r} looking for beginning of value"
    return f"invalid JSON: {text}"


def _type_error(type_: type[Any], text: str) -> str:
    found = _TYPE_ERROR.match(text)
    if not found:
        return f"invalid JSON: {text}"
    expected = next((part.strip() for part in found[1].split("|") if part.strip() != "null"), found[1])
    kind = _GO_KIND.get(found[2], found[2])
    go_type = _GO_TYPE.get(expected, expected)
    if not found[3]:
        return f"invalid JSON: json: cannot unmarshal {kind} into Go value of type {type_.__name__}"
    keys = [key for key in re.split(r"\.|\[[^\]]*\]", found[3]) if key]
    owner = keys[-2] if len(keys) > 1 else type_.__name__
    field = keys[-1] if keys else "?"
    return f"invalid JSON: json: cannot unmarshal {kind} into Go struct field {owner}.{field} of type {go_type}"


def _fixer_of(type_: Any) -> Fixer | None:
    if type_ not in _fixers:
        _fixers[type_] = _compile(inspect.type_info(type_))
    return _fixers[type_]


def _compile(info: inspect.Type) -> Fixer | None:
    if isinstance(info, inspect.StructType):
        return _struct_fixer(info)
    if isinstance(info, inspect.ListType):
        return _list_fixer(info)
    if isinstance(info, inspect.DictType):
        return _dict_fixer(info)
    if isinstance(info, inspect.IntType):
        return _check_int64
    if isinstance(info, inspect.UnionType):
        return _union_fixer(info)
    return None


def _check_int64(value: Any) -> Any:
    if type(value) is int and not -_INT64 <= value < _INT64:
        raise InvalidArgument(f"invalid JSON: json: cannot unmarshal number {value} into Go value of type int64")
    return value


def _struct_fixer(info: inspect.StructType) -> Fixer:
    fixers = {field.encode_name: _compile(field.type) for field in info.fields}
    folded = {name.lower(): name for name in fixers}

    def fix(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        fixed: dict[str, Any] = {}
        for key, item in value.items():
            if item is None:
                continue
            name = key
            if key not in fixers:
                name = folded.get(key.lower(), "")
                if not name or name in value:
                    continue
            fixer = fixers[name]
            fixed[name] = fixer(item) if fixer else item
        return fixed

    return fix


def _zero(info: inspect.Type) -> Any:
    if isinstance(info, inspect.StrType):
        return ""
    if isinstance(info, inspect.IntType):
        return 0
    if isinstance(info, inspect.StructType):
        return {}
    return None


def _list_fixer(info: inspect.ListType) -> Fixer:
    fixer, zero = _compile(info.item_type), _zero(info.item_type)

    def fix(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return [zero if item is None else fixer(item) if fixer else item for item in value]

    return fix


def _dict_fixer(info: inspect.DictType) -> Fixer:
    fixer, zero = _compile(info.value_type), _zero(info.value_type)

    def fix(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: zero if item is None else fixer(item) if fixer else item for key, item in value.items()}

    return fix


def _union_fixer(info: inspect.UnionType) -> Fixer | None:
    fixers = [fixer for fixer in map(_compile, info.types) if fixer is not None]
    if len(fixers) < 2:
        return fixers[0] if fixers else None

    def fix(value: Any) -> Any:
        for fixer in fixers:
            value = fixer(value)
        return value

    return fix
