"""Units, times, tables, quoting, image names, JSON text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.cli.commands.ps import displayed_ports
from wherry.cli.gotext import parse_duration, quoted
from wherry.cli.jsontext import indented, squeezed
from wherry.cli.output import columns
from wherry.cli.reference import InvalidName, repository_and_tag, with_tag
from wherry.cli.units import bytes_size, go_time, human_size, parse_ram, parse_time
from wherry.client.quickjson import dumps, loads

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("size", "digits", "expected"),
    [
        (0, 3, "0B"),
        (999, 3, "999B"),
        (1984172, 3, "1.98MB"),
        (1984172, 4, "1.984MB"),
        (10**12, 4, "1TB"),
        (123456, 3, "123kB"),
    ],
)
def test_sizes(size: int, digits: int, expected: str) -> None:
    """Sizes are decimal, rounded to significant digits."""
    assert human_size(size, digits) == expected


def test_binary_sizes() -> None:
    """Memory is binary, out and in."""
    assert bytes_size(25276514304) == "23.54GiB"
    assert [parse_ram(text) for text in ("512", "1k", "1.5g", "2GiB", "3mb", "4 m")] == [
        512,
        1024,
        1610612736,
        2 << 30,
        3 << 20,
        4 << 20,
    ]
    for text, message in (("5x", "invalid suffix: 'x'"), ("x", "invalid size: 'x'"), ("-1", "invalid size: '-1'")):
        with pytest.raises(ValueError, match=r".") as caught:
            parse_ram(text)
        assert str(caught.value) == message


def test_timestamps() -> None:
    """RFC 3339 in, Go's print of a time out."""
    assert parse_time("2026-11-24T08:18:31.87Z") == (1795508311, 870000000)
    assert parse_time("2026-11-24T10:18:31+02:00") == (1795508311, 0)
    assert go_time(1795508311, 870000000, utc=True) == "2026-11-24 08:18:31.87 +0000 UTC"
    for text in ("", "yesterday", "2026-11-24", "2026-11-24T08:18:31"):
        with pytest.raises(ValueError, match="not a timestamp"):
            parse_time(text)


def test_go_durations() -> None:
    """Durations have units, may have several."""
    assert [parse_duration(text) for text in ("1h2m", "1.5s", "-3ms", "0", "2us")] == [
        3720 * 10**9,
        1500000000,
        -3000000,
        0,
        2000,
    ]
    for text, message in (
        ("x", 'time: invalid duration "x"'),
        ("5", 'time: missing unit in duration "5"'),
        ("5x", 'time: unknown unit "x" in duration "5x"'),
        ("", 'time: invalid duration ""'),
    ):
        with pytest.raises(ValueError, match=r".") as caught:
            parse_duration(text)
        assert str(caught.value) == message


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
