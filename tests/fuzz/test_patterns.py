"""Random patterns: each fits what a matcher that tries everything says, and costs time in proportion to the lengths.

The reference is written from the documentation of Go's `path.Match` and of moby's patternmatcher, and reads a pattern's
text itself; it goes back at every star, so that it gets small inputs only.
"""

import time
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz.test_fuzz import ROUND, for_a_while
from wherry.builder.language.excluding import rules
from wherry.builder.language.ignorefile import Matcher, clean
from wherry.errors import InvalidArgument
from wherry.patterns import globs
from wherry.patterns.expressions import Expression
from wherry.snapshots.selecting import select
from wherry.snapshots.treeview import DIRECTORY, FILE, Entry, Excluded


class Bad(Exception):
    """The text is no pattern."""


def bracket(pattern: str) -> tuple[bool, list[tuple[str, str]], str]:
    """Read a bracket from behind its `[`: whether it is negated, its ranges, and the rest of the pattern."""
    negated = pattern[:1] == "^"
    rest = pattern[negated:]
    ranges: list[tuple[str, str]] = []
    while not (ranges and rest[:1] == "]"):
        low, rest = bound(rest)
        high = low
        if rest[:1] == "-":
            high, rest = bound(rest[1:])
        ranges.append((low, high))
    return negated, ranges, rest[1:]


def bound(rest: str) -> tuple[str, str]:
    """Read one end of a range; something has to follow."""
    if rest[:1] in ("", "-", "]"):
        raise Bad
    rest = rest[rest[0] == "\\" :]
    if len(rest) < 2:
        raise Bad
    return rest[0], rest[1:]


def check(pattern: str) -> None:
    """Raise Bad if the text is no pattern."""
    while pattern:
        if pattern[0] == "[":
            pattern = bracket(pattern[1:])[2]
        elif pattern[0] == "\\":
            if len(pattern) < 2:
                raise Bad
            pattern = pattern[2:]
        else:
            pattern = pattern[1:]


def fits(pattern: str, name: str, *, across: bool) -> bool:
    """Whether the whole of a name fits; with `across`, `**` is any number of whole directories."""
    if not pattern:
        return not name
    if across and pattern.startswith("**"):
        rest = pattern[2:].removeprefix("/")
        if not rest:
            return "\n" not in name
        starts = [0, *(at + 1 for at, char in enumerate(name) if char == "/" and "\n" not in name[:at])]
        return any(fits(rest, name[at:], across=across) for at in starts)
    if pattern[0] == "*":
        ends = [at for at in range(len(name) + 1) if "/" not in name[:at]]
        return any(fits(pattern[1:], name[at:], across=across) for at in ends)
    if not name:
        return False
    rest = pattern[1:]
    if pattern[0] == "?":
        here = name[0] != "/"
    elif pattern[0] == "[":
        negated, ranges, rest = bracket(rest)
        here = any(low <= name[0] <= high for low, high in ranges) != negated
    else:
        if pattern[0] == "\\":
            pattern, rest = rest, rest[1:]
        here = name[0] == pattern[0]
    return here and fits(rest, name[1:], across=across)


def fits_path(pattern: str, path: str) -> bool:
    """The same for `.dockerignore`: text before or behind a single `**` is compared as it is written."""
    if pattern.startswith("**") and not set(pattern[2:]) & set("*?[]\\"):
        end = pattern[2:]
        return path.endswith(end) or (end[0] == "/" and path == end[1:])
    if pattern.endswith("**") and not set(pattern[:-2]) & set("*?[]\\"):
        return path.startswith(pattern[:-2])
    return fits(pattern, path, across=True)


def upwards(path: str) -> Iterator[str]:
    """A path and the directories that it is in."""
    yield path
    for at, char in enumerate(path):
        if char == "/" and at:
            yield path[:at]


def left_out(patterns: Sequence[str], path: str) -> bool:
    """Whether a list of patterns leaves a path out: the last one that fits it, or a directory above it, decides."""
    out = False
    for pattern in patterns:
        again = pattern.startswith("!")
        if any(fits_path(pattern.removeprefix("!"), one) for one in upwards(path)):
            out = not again
    return out


_ATOMS = st.sampled_from(
    (
        *("a", "b", "a", "/", "*", "*", "**", "**/", "/**", "?", ".", "-", "é", "[ab]", "[^a]", "[a-b]", "[b-a]"),
        *("[^b-z]", "[\\]a]", "[.-/]", "\\*", "\\?", "\\[", "\\\\", "[", "\\", "]", "[]", "[a", "[a-]", "+", "("),
    )
)
_PATTERNS = st.lists(_ATOMS, min_size=1, max_size=7).map("".join)
_WORDS = st.text("ab.-*?[]\\é\n+(", min_size=1, max_size=4).filter(lambda word: word not in (".", ".."))
_PATHS = st.lists(_WORDS, min_size=1, max_size=4).map("/".join)


def _is_pattern(text: str) -> bool:
    try:
        check(text)
    except Bad:
        return False
    return True


def _refused(text: str) -> bool:
    try:
        globs.component(text)
    except InvalidArgument:
        return True
    return False


@ROUND
@given(st.lists(st.tuples(st.booleans(), _PATTERNS), max_size=3), st.lists(_PATHS, min_size=1, max_size=6))
@example([(False, "**.o")], ["x.o", "d.o/x", "d/x"])
@example([(False, "d**")], ["da/x", "a"])
@example([(False, "**]")], ["a]", "]"])
@example([(False, "***")], ["a\n/b"])
@example([(False, "**"), (True, "**/a")], ["a\n/a", "b/a/b"])
def _patterns(written: list[tuple[bool, str]], paths: list[str]) -> None:
    for _, text in written:
        assert _refused(text) != _is_pattern(text)
        if _is_pattern(text):
            for name in paths:
                assert globs.component(text)(name) == fits(text, name, across=False)
                found = _selected(text, paths)
                assert found == _wanted(text, paths)
    listed = [f"!{text}" if again else text for again, text in written]
    cleaned = [clean(text) for text in listed]
    try:
        for text in cleaned:
            check(text.removeprefix("!"))
        if "!" in cleaned:
            raise Bad
    except Bad:
        with pytest.raises(InvalidArgument):
            Matcher(listed)
        return
    matcher = Matcher(listed)
    excluded = Excluded(rules(tuple(f"!{clean(text)}" if again else clean(text) for again, text in written)))
    relative = [text.removeprefix("!").lstrip("/") for text in cleaned]
    relative = [f"!{text}" if again else text for text, (again, _) in zip(relative, written, strict=True)]
    for path in paths:
        assert matcher.matches(path) == left_out(cleaned, path)
        assert excluded(path) == left_out(relative, path)


class _Tree:
    """Paths as a tree of files and directories, for `select`."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = {one for path in paths for one in upwards(path)}
        self.above = {path.rpartition("/")[0] for path in self.paths} | {""}

    def get(self, path: str) -> Entry | None:
        """What is there."""
        if path not in self.paths and path:
            return None
        return Entry(DIRECTORY if path in self.above else FILE, 0o755, 0, 0, 0, 0, "", "")

    def names(self, path: str) -> list[str]:
        """The names in a directory, in order."""
        return sorted(one.rpartition("/")[2] for one in self.paths if one and one.rpartition("/")[0] == path)

    def content(self, path: str, entry: Entry, /) -> str:
        """No content is asked for."""
        raise NotImplementedError


def _parts(pattern: str) -> list[str]:
    parts: list[str] = []
    for part in pattern.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return parts


def _wanted(pattern: str, paths: Sequence[str]) -> list[str] | None:
    """What a source of `COPY` names: each component fits its own name. None where one of them is no pattern."""
    parts = _parts(pattern)
    if not all(map(_is_pattern, parts)):
        return None
    tree = _Tree(paths)
    found = []
    for path in sorted(tree.paths, key=lambda path: path.split("/")):
        names = path.split("/")
        if len(names) == len(parts) and all(map(lambda a, b: fits(a, b, across=False), parts, names)):
            found.append(path)
    return found


def _selected(pattern: str, paths: Sequence[str]) -> list[str] | None:
    parts = _parts(pattern)
    if not any(map(globs.special, parts)):
        return _wanted(pattern, paths)  # a name that is there or not
    if not all(map(_is_pattern, parts)):
        return None
    return select(_Tree(paths), pattern)


def test_patterns() -> None:
    """Patterns of `.dockerignore`, `--exclude`, `COPY` and filters fit what a matcher that tries everything says."""
    for_a_while(_patterns)


_SECONDS_A_CHARACTER = 100e-6
"""What a character of a text may cost, for a pattern of up to 64 characters; about twenty times what it does."""
_LENGTH = 6000


@ROUND
@given(
    st.lists(_ATOMS.filter(_is_pattern), min_size=1, max_size=4).map("".join),
    st.integers(1, 60),
    st.sampled_from(["a", "ab", "a/", "b/a", "aab", "é", "a.", "ab/ba"]),
    st.sampled_from(["", "b", "c", "/", "\n"]),
)
@example("*a", 60, "a", "b")
@example("**/a", 60, "a/", "b")
@example("**a*", 60, "a/", "c")
@example("?*", 60, "a", "/")
def _patterns_in_time(unit: str, times: int, piece: str, end: str) -> None:
    pattern = unit * times
    text = piece * (_LENGTH // len(piece)) + end
    limit = 0.2 + _SECONDS_A_CHARACTER * len(text) * (1 + len(pattern) / 64)
    begin = time.thread_time()
    globs.component(pattern)(text)
    globs.path(pattern)(text)
    globs.path(pattern, below=True)(text)
    assert time.thread_time() - begin < limit


_EXPRESSIONS = st.lists(
    st.sampled_from(
        ["a", "b", ".", "a*", "a+", "(a|b)*", "(a*)*", "(a|a)+", "[ab]?", "a?", ".*", "\\w*", "$", "a{0,9}"]
    ),
    min_size=1,
    max_size=6,
).map("".join)


@ROUND
@given(_EXPRESSIONS, st.integers(1, 12), st.sampled_from(["a", "ab", "a/", "é"]), st.sampled_from(["", "c"]))
@example("(a*)*", 1, "a", "c")
@example("(a|a)+$", 1, "a", "c")
@example("a?", 12, "a", "")
def _expressions_in_time(unit: str, times: int, piece: str, end: str) -> None:
    pattern = unit * times + "x$"
    text = piece * (_LENGTH // len(piece)) + end
    limit = 0.2 + _SECONDS_A_CHARACTER * len(text) * (1 + len(pattern) / 4)
    begin = time.thread_time()
    try:
        assert not Expression(pattern).search(text)
    except InvalidArgument:
        return
    assert time.thread_time() - begin < limit


def test_patterns_in_time() -> None:
    """A long text is held against a pattern of many stars in time that grows with their lengths."""
    for_a_while(_patterns_in_time)


def test_expressions_in_time() -> None:
    """The same for the regular expressions of filters."""
    for_a_while(_expressions_in_time)
