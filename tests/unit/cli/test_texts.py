"""Units, times, tables, quoting, image names, JSON text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.cli.commands.ps import displayed_ports
from wherry.cli.jsontext import indented, squeezed
from wherry.cli.output import columns
from wherry.cli.reference import InvalidName, repository_and_tag, with_tag
from wherry.client.quickjson import dumps, loads
from wherry.values.gotext import quote as quoted

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def test_quoting() -> None:
    """Strings are quoted as %q does it, bytes that are no text included."""
    assert quoted('a"b\\c\n\x01é') == '"a\\"b\\\\c\\n\\x01é"'
    assert quoted(b"\xff".decode("utf-8", "surrogateescape")) == '"\\xff"'


def test_columns() -> None:
    """Columns are as wide as their widest cell and three spaces, ten at least; the last has no padding."""
    assert (
        columns([["ID", "NAME", "X"], ["1234567890", "a", "y"]])
        == "ID           NAME      X\n1234567890   a         y\n"
    )
    assert columns([["", "b"]]) == "          b\n"


def test_ports() -> None:
    """Equal numbers are drawn together, mappings come after."""
    ports = [
        {"PrivatePort": 80, "Type": "tcp"},
        {"PrivatePort": 81, "Type": "tcp"},
        {"PrivatePort": 90, "Type": "udp"},
        {"IP": "0.0.0.0", "PrivatePort": 443, "PublicPort": 443, "Type": "tcp"},
        {"IP": "::", "PrivatePort": 22, "PublicPort": 2222, "Type": "tcp"},
    ]
    assert displayed_ports(ports) == "80-81/tcp, 90/udp, 0.0.0.0:443->443/tcp, [::]:2222->22/tcp"


def test_names() -> None:
    """A name without a tag means latest; what cannot be a name is refused in Docker's words."""
    assert with_tag("busybox") == "busybox:latest"
    assert with_tag("docker.io/library/busybox:1") == "busybox:1"
    assert with_tag("localhost:5000/a/b") == "localhost:5000/a/b:latest"
    assert with_tag("a" * 64) == ""
    assert repository_and_tag("busybox") == ("docker.io/library/busybox", "latest")
    for name, message in (
        ("UPPER", "invalid reference format: repository name (library/UPPER) must be lowercase"),
        ("a b", "invalid reference format"),
        ("a:", "invalid reference format"),
        ("", "invalid reference format"),
        ("-x", "invalid reference format"),
    ):
        with pytest.raises(InvalidName) as caught:
            with_tag(name)
        assert str(caught.value) == message


@given(JSON)
def test_json_round_trip(value: object) -> None:
    """Our JSON is the standard library's, in and out, compact and indented."""
    text = dumps(value)
    assert json.loads(text) == value
    assert loads(json.dumps(value)) == value
    assert loads(indented(text.encode("utf-8", "surrogatepass"))) == json.loads(text)
    assert squeezed(json.dumps(value, indent=2).encode()) == json.dumps(value, separators=(",", ":"))


def test_json_complaints() -> None:
    """What is no JSON is a ValueError; numbers and escapes keep their text when it is only indented."""
    for text in ("", "{", '{"a":}', "1 2", "nul"):
        with pytest.raises(ValueError, match=r"."):
            loads(text)
    assert indented(b'{"a":[],"b":{"c":1.0e5,"d":"\\u003c\\""},"e":[1,2]}') == (
        '{\n    "a": [],\n    "b": {\n        "c": 1.0e5,\n        "d": "\\u003c\\""\n    },\n'
        '    "e": [\n        1,\n        2\n    ]\n}'
    )
