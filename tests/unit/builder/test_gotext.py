"""Values as Go writes and reads them."""

import pytest

from wherry.builder.language import gotext
from wherry.errors import InvalidArgument


def test_quote() -> None:
    assert gotext.quote('a"\\\n\t\x00\x7fé\u200b😀\udcff') == '"a\\"\\\\\\n\\t\\x00\\x7fé\\u200b😀\\xff"'
    assert gotext.quote_list(("a", "b c")) == '["a" "b c"]'


@pytest.mark.parametrize(
    ("text", "value"),
    [("1h2m3s", 3723 * 10**9), ("1.5s", 15 * 10**8), ("-1ms", -(10**6)), ("0", 0), (".5m", 30 * 10**9), ("2us", 2000)],
)
def test_durations(text: str, value: int) -> None:
    assert gotext.parse_duration(text) == value


@pytest.mark.parametrize("text", ["", "s", "1", "1x", "1s1", ".s", "1" * 40 + "h", "9999999999h", "1.2.3s"])
def test_no_durations(text: str) -> None:
    with pytest.raises(InvalidArgument, match="time: "):
        gotext.parse_duration(text)


@pytest.mark.parametrize(
    ("text", "value"), [("1", 1), ("1k", 1024), ("1.5KiB", 1536), ("2GB", 2 << 30), ("3 m", 3 << 20)]
)
def test_sizes(text: str, value: int) -> None:
    assert gotext.parse_size(text) == value


@pytest.mark.parametrize("text", ["", "x", "-1", "1kk", "9" * 30, "9999999999P"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="invalid size"):
        gotext.parse_size(text)


def test_suggestions() -> None:
    names = ("RUN", "COPY", "CMD")
    assert gotext.suggest("CPOY", names) == "COPY"
    assert gotext.suggest("cop", names, case_sensitive=False) == "copy"
    assert gotext.suggest("RUN", names) == ""
    assert gotext.suggest("ENTIRELY", names) == ""
    assert gotext.suggest("x" * 10**6, names) == ""
