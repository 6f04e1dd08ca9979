"""Patterns of names and paths: what they mean, held against a regular expression, and that none takes for ever."""

import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wherry.errors import InvalidArgument
from wherry.patterns import globs

PATTERN = st.text("ab/*?[]^-\\.!", max_size=12)
NAME = st.text("ab/.\n!-^]*", max_size=10)


def reference(pattern: str, *, across: bool) -> re.Pattern[str]:
    """The same as a regular expression, which may go back."""
    out = []
    for kind, text, ranges in globs.tokens(pattern, across=across):
        if kind in (globs.CLASS, globs.NONE_OF):
            inside = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in ranges)
            negated = kind == globs.NONE_OF
            empty = r"[\s\S]" if negated else r"[^\s\S]"
            out.append(f"[{'^' if negated else ''}{inside}]" if inside else empty)
        else:
            plain = {globs.ANY: "[^/]", globs.STAR: "[^/]*", globs.REST: ".*", globs.ACROSS: "(?:.*/)?"}
            out.append(plain.get(kind) or re.escape(text))
    return re.compile("".join(out))


@given(PATTERN, NAME)
@settings(max_examples=500)
@example("*a*b", "aab")
@example("**/*.b", "a\nb/x.b")
@example("**/*.b", "a/x\n.b")
@example("*/", "/")
def test_a_path_fits_as_a_regular_expression_says(pattern: str, name: str) -> None:
    try:
        whole = reference(pattern, across=True)
    except InvalidArgument:
        with pytest.raises(InvalidArgument):
            globs.path(pattern)
        return
    assert globs.Places(globs.tokens(pattern, across=True)).match(name) == (whole.fullmatch(name) is not None)
    # two forms that moby compares as text have habits of their own
    if "\n" not in name and not (pattern.startswith("**") and not pattern.startswith("**/")):
        assert globs.path(pattern)(name) == (whole.fullmatch(name) is not None)
    upper = [name[:at] for at, char in enumerate(name) if char == "/"]
    fits = globs.path(pattern)
    assert globs.path(pattern, below=True)(name) == any(map(fits, [*upper, name]))


@pytest.mark.parametrize(
    ("pattern", "fitting", "other"),
    [
        ("**.o", ["x.o", "d/x.o", "x.o/y", "d.o/e/y"], ["x.oo", "d/x"]),
        ("**/x", ["x", "x/y", "d/x/y"], ["dx", "d/xy"]),
        ("**ab", ["ab", "xab", "d/xab/y"], ["abc", "d/abc/x"]),
        ("d**", ["d", "da", "da/x", "d/x"], ["a", "a/d"]),
        ("**]", ["]", "d/]"], ["a]"]),
    ],
)
def test_two_stars_at_an_end_mean_the_same_below_as_alone(pattern: str, fitting: list[str], other: list[str]) -> None:
    fits = globs.path(pattern, below=True)
    assert [name for name in fitting if not fits(name)] == []
    assert [name for name in other if fits(name)] == []


@given(PATTERN, st.text("ab.\n!-^]*", max_size=10))
@settings(max_examples=500)
def test_a_name_fits_as_a_regular_expression_says(pattern: str, name: str) -> None:
    try:
        whole = reference(pattern, across=False)
    except InvalidArgument:
        return
    assert globs.component(pattern)(name) == (whole.fullmatch(name) is not None)


@given(st.text("ab*?[]^-\\!.", max_size=6).filter(bool), st.text("ab*?[]^-\\!.", max_size=6))
def test_an_escaped_name_fits_itself_alone(name: str, other: str) -> None:
    """Whatever is in it."""
    fits = globs.component(globs.escaped(name))
    assert fits(name)
    assert fits(other) == (name == other)


@pytest.mark.parametrize("pattern", ["[", "[]a]", "[a", "[a-", "[a-]", "[-x]", "[x-]", "a\\", "[a-b-c]", "a[", "[\\"])
def test_no_patterns(pattern: str) -> None:
    for read in (globs.path, globs.component):
        with pytest.raises(InvalidArgument, match="syntax error in pattern"):
            read(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        *("*a" * 2000 + "b", "**/a" * 1000 + "b", "**a" * 1000 + "?b", "[a-b]*" * 1000 + "c", "*" * 60000 + "b"),
        *("***/" * 9000 + "b", "?" * 60000, "*?" * 1500 + "b", "[" + "a-b" * 20000 + "]*b"),
    ],
)
def test_hostile_patterns_end_in_time(pattern: str) -> None:
    start = time.process_time()
    for read in (globs.path, globs.component):
        match = read(pattern)
        assert not match("a" * 4000 + "x")
        match("a/" * 1000 + "x")
    assert not globs.path(pattern, below=True)("a" * 4000)
    assert time.process_time() - start < 5


def test_what_is_remembered_is_bounded() -> None:
    """Names that never repeat themselves leave nothing behind."""
    places = globs.Places(globs.tokens("*a*b*c*d*e*f*g", across=True))
    for number in range(3000):
        places.match(f"{number:x}{number * 7919:x}" * 4)
        assert len(places._states) <= 64 and places._steps <= 512
