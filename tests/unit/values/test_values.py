"""Values are read and written as Go does: `expected.json` is what the Go program beside it prints."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wherry.values import durations, gotext, sizes, times

EXPECTED: dict[str, list[list[Any]]] = json.loads((Path(__file__).parent / "expected.json").read_text())


def _rows(table: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", EXPECTED[table], ids=[str(row[0])[:30] for row in EXPECTED[table]])


def _read(function: Callable[[str], object], text: str) -> object:
    try:
        return function(text)
    except ValueError as error:
        return str(error)


def _text(digits: str) -> str:
    return bytes.fromhex(digits).decode("utf-8", "surrogateescape")


@_rows("ParseDuration")
def test_durations_are_read(row: list[Any]) -> None:
    """Nanoseconds, or Go's error."""
    assert _read(durations.parse, row[0]) == row[1]


@_rows("Duration.String")
def test_durations_are_written(row: list[Any]) -> None:
    """Every nanosecond, in the units that Go takes."""
    assert durations.printed(row[0]) == row[1]


@_rows("HumanDuration")
def test_durations_are_told_roughly(row: list[Any]) -> None:
    """As Docker's tables have them."""
    assert durations.human(row[0]) == row[1]


@_rows("time.Parse")
def test_times_are_read(row: list[Any]) -> None:
    """Nanoseconds, or an error."""
    text, expected = row
    if expected is None:
        with pytest.raises(ValueError, match="not a timestamp"):
            times.parse(text)
    else:
        assert times.parse(text) == expected


@pytest.fixture
def somewhere() -> Iterator[None]:
    """Local time of a zone that is 5:30 ahead of UTC."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "IST-5:30"
    time.tzset()
    yield
    del os.environ["TZ"]
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


@_rows("Time")
@pytest.mark.usefixtures("somewhere")
def test_times_are_written(row: list[Any]) -> None:
    """With and without a fraction, in UTC and in local time."""
    value, whole, nano, text, there, text_there = row
    assert times.whole(value // 10**9) == whole
    assert times.trimmed(value) == nano
    assert times.exact(value) == f"{whole[:-1]}.{value % 10**9:09d}Z"
    assert times.printed(value, utc=True) == text
    assert times.local(value // 10**9) == there
    assert times.printed(value) == text_there
    assert times.parse(times.exact(value)) == times.parse(times.trimmed(value)) == value


def test_forms_of_rfc_3339_that_go_does_not_read() -> None:
    """Lower-case letters, a space, a leap second; and the year 1, which 64 bits of nanoseconds do not reach."""
    assert times.parse("2020-01-02t03:04:05z") == times.parse("2020-01-02 03:04:05Z") == 1577934245 * 10**9
    assert times.parse("2016-12-31T23:59:60Z") == times.parse("2016-12-31T23:59:59Z")
    assert times.parse(times.ZERO) == times.ZERO_SECONDS * 10**9


def test_times_of_filters() -> None:
    """Seconds, a duration before now, or a time that may be shortened."""
    now = 1000 * 10**9
    for text, value in (
        ("1600000000", 1600000000 * 10**9),
        ("1600000000.123456789", 1600000000123456789),
        ("-5", -5 * 10**9),
        ("90s", 910 * 10**9),
        ("1m30s", 910 * 10**9),
        ("1h", -2600 * 10**9),
        ("-1m", 1060 * 10**9),
        ("100us", now - 100_000),
        ("1970-01-02", 86400 * 10**9),
        ("1970-01-02T00:00:01", 86401 * 10**9),
        ("1970-01-02T00:01", 86460 * 10**9),
        ("1970-01-02T02:00:00+02:00", 86400 * 10**9),
    ):
        assert times.parse_filter(text, now) == value, text
    for text in ("x", "", "1x", "1.2.3h", "5.", ".5", "-", "1_0", "²"):
        with pytest.raises(ValueError, match="not a timestamp"):
            times.parse_filter(text, now)


@_rows("ParseSize")
def test_sizes_are_read(row: list[Any]) -> None:
    """In decimal and in binary units, or go-units' error."""
    text, decimal, binary = row
    assert _read(sizes.from_human, text) == decimal
    assert _read(sizes.ram_in_bytes, text) == binary


@pytest.mark.parametrize("text", ["8388608t", "1e30", "9223372036854775808", "99999999999999999999k"])
def test_a_size_of_more_than_63_bits_is_none(text: str) -> None:
    """What Go makes of it depends on the processor."""
    with pytest.raises(ValueError, match="invalid size"):
        sizes.ram_in_bytes(text)


@_rows("PrintSize")
def test_sizes_are_written(row: list[Any]) -> None:
    """With four or three significant digits, in decimal and in binary units."""
    size, human, short, binary = row
    assert sizes.human(size) == human
    assert sizes.human(size, 3) == short
    assert sizes.binary(size) == binary


@_rows("Quote")
def test_text_is_quoted(row: list[Any]) -> None:
    """With Go's escapes; what is no UTF-8 byte by byte."""
    assert gotext.quote(_text(row[0])) == _text(row[1])


def test_lists_are_quoted() -> None:
    """As `%q` of a slice."""
    assert gotext.quote_list(["a", "b c"]) == '["a" "b c"]'


@_rows("Unquote")
def test_literals_are_read(row: list[Any]) -> None:
    """Their text, or an error."""
    literal, expected = row
    if expected is None:
        with pytest.raises(ValueError, match="invalid syntax"):
            gotext.unquote(literal)
    else:
        assert gotext.unquote(literal) == _text(expected)


@_rows("ParseBool")
def test_truth_values_are_read(row: list[Any]) -> None:
    """Or Go's error."""
    assert _read(gotext.parse_bool, row[0]) == row[1]


@_rows("ParseInt")
def test_integers_are_read(row: list[Any]) -> None:
    """Of any base, of 64 bits, and of 16 without a sign; or Go's error."""
    text, signed, unsigned = row
    assert _read(gotext.parse_int, text) == signed
    assert _read(lambda one: gotext.parse_int(one, 16, unsigned=True), text) == unsigned
