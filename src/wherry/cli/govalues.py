"""Values as Go sees and prints them: maps, structs with named fields, nil, and no value at all."""

from wherry.client.quickjson import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _NoValue:
    """What a missing map entry prints as."""

    def __repr__(self) -> str:
        return "<no value>"


NO_VALUE = _NoValue()


class Missing(Exception):
    """A field that a value does not have; the text is Go's."""


class Moment(str):
    """A timestamp that Go decoded: JSON as it was, printed as Go prints a time."""

    __slots__ = ()


class Struct:
    """A Go struct over a JSON object.

    Args:
        name: its Go type, for errors.
        fields: Go field name → (JSON key, value); in the struct's order.
        raw: the JSON object.
    """

    __slots__ = ("fields", "name", "pointer", "raw")

    def __init__(self, name: str, fields: "dict[str, tuple[str, Any]]", raw: "dict[str, Any]", pointer: bool) -> None:
        self.name = name
        self.fields = fields
        self.raw = raw
        self.pointer = pointer

    def field(self, name: str) -> "Any":
        found = self.fields.get(name)
        if found is None:
            raise Missing(f"can't evaluate field {name} in type {'*' if self.pointer else ''}{self.name}")
        return found[1]


def shown(value: "Any") -> str:
    """What an action prints: `%v` of a value, pointers followed."""
    if isinstance(value, Struct):
        return "{" + " ".join(_inner(item) for _, item in value.fields.values()) + "}"
    return _inner(value)


def _inner(value: "Any") -> str:
    if value is None:
        return "<nil>"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, Moment):
        return _moment(value)
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{_inner(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(_inner(item) for item in value) + "]"
    if isinstance(value, Struct):
        # Go prints the address of a pointer inside another value; any will do
        return f"0x{0xC000000000 + id(value) % 0x1000000:x}" if value.pointer else shown(value)
    return str(value)


def _moment(text: str) -> str:
    from wherry.values import times

    try:
        return times.printed(times.parse(text), utc=True)
    except ValueError:
        return text


def _float(value: float) -> str:
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    text = repr(value)
    if "e" not in text:
        return text
    mantissa, _, exponent = text.partition("e")
    return (
        f"{mantissa.removesuffix('.0')}e{exponent[0] if exponent[0] in '+-' else '+'}{exponent.lstrip('+-').zfill(2)}"
    )


def plain(value: "Any") -> "Any":
    """A value as JSON: structs become their objects, keys of maps sorted."""
    if isinstance(value, Struct):
        raw = value.raw
        return {key: None if raw[key] is None else plain(item) for key, item in value.fields.values() if key in raw}
    if isinstance(value, dict):
        return {key: plain(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if value is NO_VALUE:
        return None
    as_json = getattr(value, "as_json", None)
    return as_json() if as_json else value


def to_json(value: "Any", *, escape_html: bool = False) -> str:
    """A value as JSON text; `escape_html` as Go's `json.Marshal` does by itself."""
    text = dumps(plain(value))
    if escape_html or hasattr(value, "as_json"):
        text = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    return text


def is_true(value: "Any") -> bool:
    """Go's truth: not zero, not empty, not nil."""
    if value is NO_VALUE or value is None:
        return False
    if isinstance(value, (bool, int, float, str, list, dict)):
        return bool(value)
    return True


def type_name(value: "Any") -> str:
    """The Go type of a decoded JSON value, for errors."""
    if isinstance(value, Struct):
        return f"{'*' if value.pointer else ''}{value.name}"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, dict):
        return "map[string]interface {}"
    if isinstance(value, list):
        return "[]interface {}"
    return {str: "string", int: "int", float: "float64"}.get(type(value), getattr(value, "go_type", "interface {}"))
