"""`.dockerignore`: what of a context is left out. Also the patterns of `COPY --exclude`.

Patterns are asked in order and the last one that speaks wins; `!pattern` takes in again. What is left out takes along
everything below it, unless a later `!` names it. The reader's and matcher's rules are moby's patternmatcher's.
"""

import posixpath
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from wherry.errors import InvalidArgument
from wherry.patterns import globs
from wherry.values.gotext import SPACE

MAX_LINE = 65535
"""Longest line of the file."""

MAX_PATTERNS = 20_000
"""So many patterns one file may hold; each is asked for each path."""


def read_ignorefile(data: bytes) -> list[str]:
    """The patterns of a `.dockerignore`, clean and relative.

    Raises:
        InvalidArgument: a line that is too long, too many patterns.
    """
    out: list[str] = []
    for raw in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        if len(raw) > MAX_LINE:
            raise InvalidArgument(f"failed to parse .dockerignore: a line is longer than {MAX_LINE} bytes")
        line = raw.decode("utf-8", "surrogateescape")
        pattern = line.strip(SPACE)
        if line.startswith("#") or not pattern:
            continue
        again = pattern.startswith("!")
        if again:
            pattern = pattern[1:].strip(SPACE)
        if pattern:
            pattern = clean(pattern)
            if len(pattern) > 1:
                pattern = pattern.removeprefix("/")
        out.append("!" + pattern if again else pattern)
    if len(out) > MAX_PATTERNS:
        raise InvalidArgument(f"failed to parse .dockerignore: more than {MAX_PATTERNS} patterns")
    return out


def clean(path: str) -> str:
    """The shortest path that says the same; "." for nothing."""
    short = posixpath.normpath(path)
    return "/" + short.lstrip("/") if short.startswith("//") else short


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern; `again` where it takes in what another left out."""

    text: str
    again: bool
    match: Callable[[str], bool]


Answers = Sequence[bool]
"""For each pattern, whether it or one of the directories above matched; handed from a directory to what is in it."""


class Matcher:
    """Patterns in order.

    Args:
        patterns: as `read_ignorefile` gives them, or of `--exclude`.

    Raises:
        InvalidArgument: a pattern that is none (`syntax error in pattern`), or a `!` alone.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        found: list[Pattern] = []
        for written in patterns:
            bare = written.strip(SPACE)
            if not bare:
                continue
            text = clean(bare)
            if text == "!":
                raise InvalidArgument('illegal exclusion pattern: "!"')
            again, text = text.startswith("!"), text.removeprefix("!")
            found.append(Pattern(text, again, globs.path(text)))
        self.patterns = tuple(found)
        self.takes_in_again = any(pattern.again for pattern in found)
        self._fronts = [_plain_front(pattern.text) for pattern in found if pattern.again]

    def matches(self, path: str) -> bool:
        """Whether `path` (relative, clean, with slashes) is left out, by its own name or that of a directory above."""
        return self.step(path, None)[0]

    def step(self, path: str, above: Answers | None) -> tuple[bool, Answers]:
        """`matches`, for a walk through a tree.

        Args:
            path: the file or directory.
            above: what this gave for the directory it is in; None where that is not known.

        Returns:
            whether it is left out, and the answers for what is in it.
        """
        left_out = False
        answers: list[bool] = []
        parents = _parents(path) if above is None else ()
        for index, pattern in enumerate(self.patterns):
            matched = above is not None and above[index]
            # a pattern that could not change the outcome is not asked
            if not matched and pattern.again == left_out:
                matched = pattern.match(path) or any(map(pattern.match, parents))
            answers.append(matched)
            if matched:
                left_out = not pattern.again
        return left_out, answers

    def may_contain(self, directory: str) -> bool:
        """Whether something in a directory that is left out could be taken in again."""
        below = directory + "/"
        return any(front is None or front.startswith(below) for front in self._fronts)


def _parents(path: str) -> list[str]:
    return [path[:position] for position, char in enumerate(path) if char == "/" and position]


def _plain_front(text: str) -> str | None:
    """A pattern without wildcards, so that one can see which directories it is in; None where one cannot."""
    front = text.removesuffix("/**")
    return None if any(char in "*?[\\" for char in front) else front + "/"
