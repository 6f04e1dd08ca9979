"""`.dockerignore`: how it is read, what it leaves out, and that no pattern takes for ever."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.builder.language.ignorefile import Matcher, clean, read_ignorefile
from wherry.errors import InvalidArgument


def test_reading() -> None:
    data = b"\xef\xbb\xbf# note\n\n  a/../b/ \r\n/abs\n! /c/./d\n!\n/\n #x\n\xff\n"
    assert read_ignorefile(data) == ["b", "abs", "!c/d", "!", "/", "#x", "\udcff"]
    assert read_ignorefile(b"") == []


@pytest.mark.parametrize("data", [b"x" * 65536, b"a\n" * 20_001])
def test_too_much(data: bytes) -> None:
    with pytest.raises(InvalidArgument, match="failed to parse"):
        read_ignorefile(data)


@pytest.mark.parametrize(
    ("patterns", "out", "kept"),
    [
        (["a"], ["a", "a/b/c"], ["b/a", "ab"]),
        (["*.o"], ["x.o"], ["d/x.o", "x.oo"]),
        (["**/*.o"], ["x.o", "d/e/x.o"], ["x.c"]),
        (["**.o"], ["x.o", "d/x.o"], ["x.c"]),
        (["d/**"], ["d/x", "d/e/x"], ["d"]),
        (["d/*/x"], ["d/e/x", "d/e/x/y"], ["d/x", "d/e/f/x"]),
        (["d/**/x"], ["d/x", "d/e/f/x"], ["dx"]),
        (["?"], ["a", "a/b"], ["ab"]),
        (["[a-c]x", "[^a-z]"], ["bx", "1"], ["dx", "q"]),
        (["a\\*b"], ["a*b"], ["axb"]),
        (["*", "!keep"], ["x", "x/keep"], ["keep", "keep/y"]),
        (["d", "!d/keep", "d/keep/not"], ["d", "d/x", "d/keep/not"], ["d/keep", "d/keep/y"]),
        (["**", "!**/*.md", "README.md"], ["a.c", "README.md"], ["x/a.md"]),
        (["a//b/", " c "], ["a/b", "c"], []),
        (["é*"], ["éa"], ["a"]),
    ],
)
def test_matching(patterns: list[str], out: list[str], kept: list[str]) -> None:
    matcher = Matcher(patterns)
    assert [path for path in out if not matcher.matches(path)] == []
    assert [path for path in kept if matcher.matches(path)] == []


@pytest.mark.parametrize("pattern", ["[", "[]a]", "[a", "[a-", "[a-]", "[-x]", "[x-]", "a\\", "[a-b-c]", "a[", "[\\"])
def test_no_patterns(pattern: str) -> None:
    with pytest.raises(InvalidArgument, match="syntax error in pattern"):
        Matcher([pattern])


def test_an_exclamation_mark_alone() -> None:
    with pytest.raises(InvalidArgument, match='illegal exclusion pattern: "!"'):
        Matcher(["!"])


def test_a_walk_gives_what_single_questions_give() -> None:
    matcher = Matcher(["d", "!d/e/*.c", "d/e/x.c", "*/f"])
    _, d = matcher.step("d", None)
    out, e = matcher.step("d/e", d)
    assert out
    for name in ("a.c", "x.c", "y", "f"):
        path = f"d/e/{name}"
        assert matcher.step(path, e)[0] == matcher.matches(path)


def test_which_directories_need_a_look() -> None:
    assert not Matcher(["d"]).may_contain("d")
    plain = Matcher(["*", "!d/e/f", "!g/**"])
    assert plain.may_contain("d") and plain.may_contain("d/e") and plain.may_contain("g")
    assert not plain.may_contain("x") and not plain.may_contain("d/x")
    assert Matcher(["*", "!**/f"]).may_contain("x")


@pytest.mark.parametrize(
    "pattern", ["*a" * 2000 + "b", "**/a" * 1000 + "b", "**a" * 1000 + "?", "[a-b]*" * 1000 + "c", "*" * 60000]
)
def test_hostile_patterns_end_in_time(pattern: str) -> None:
    start = time.process_time()
    matcher = Matcher([pattern])
    assert not matcher.matches("a" * 4000 + "x") or pattern == "*" * 60000
    matcher.matches("a/" * 100 + "x")
    assert time.process_time() - start < 5


PATTERN = st.text("ab/*?[]^-\\.!", max_size=12)


@given(st.lists(PATTERN, max_size=4), st.lists(st.text("ab", min_size=1, max_size=2), min_size=1, max_size=4))
@settings(deadline=None)
def test_a_walk_agrees_with_single_questions(patterns: list[str], names: list[str]) -> None:
    try:
        matcher = Matcher(patterns)
    except InvalidArgument:
        return
    above = None
    for depth in range(1, len(names) + 1):
        path = "/".join(names[:depth])
        left_out, above = matcher.step(path, above)
        assert left_out == matcher.matches(path)
        below = [f"{path}/{name}" for name in ("a", "b", "ab", "a/b")]
        if left_out and not matcher.may_contain(path):
            assert all(map(matcher.matches, below))


@given(st.binary(max_size=300))
def test_any_bytes_are_read(data: bytes) -> None:
    for pattern in read_ignorefile(data):
        assert pattern.encode("utf-8", "surrogateescape") is not None


def test_clean() -> None:
    assert [clean(path) for path in ("", "a//b/../c/", "//a", "/..", "../a")] == [".", "a/c", "/a", "/", "../a"]
