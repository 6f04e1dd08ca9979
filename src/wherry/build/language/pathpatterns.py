"""Patterns of paths, of `.dockerignore` and `--exclude`: `*` and `?` within a name, `**` across names, `[a-z]`.

    foo       exactly that path            foo/**   everything below foo
    *.c       within one directory         **/foo   foo at any depth
    a/**/b    b at any depth below a       **.c     every path that ends so

The language of moby's patternmatcher, with its habits: `[^a]` matches a slash too, `**` never a newline. A pattern with
few stars becomes a regular expression; one with many is walked by a set of states, because a regular expression could
be made to run for ever. Both give the same answer.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from wherry.errors import InvalidArgument

_FEW_STARS = 2
_BAD = "syntax error in pattern"


@dataclass(frozen=True, slots=True)
class _Token:
    """One piece of a pattern; `text` is a literal character, or a class as a regular expression."""

    kind: Literal["char", "class", "any", "star", "rest", "across"]
    text: str = ""


def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """A function that tells whether a path (relative, with slashes, clean) is what `pattern` says.

    Raises:
        InvalidArgument: a bracket that does not close, is empty or holds a range without an end, or a backslash at
            the end.
    """
    tokens = _tokens(pattern)
    special = [token for token in tokens if token.kind != "char"]
    plain = "\\" not in pattern
    if not special and plain:
        return pattern.__eq__
    if plain and special == tokens[-1:] and special[0].kind == "rest":
        front = pattern.removesuffix("/").removesuffix("**") if tokens[:-1] else ""
        return lambda path: path.startswith(front)
    if plain and special == tokens[:1] and special[0].kind == "across":
        end = pattern[2:]
        return lambda path: path.endswith(end) or (end[0] == "/" and path == end[1:])
    if sum(token.kind in ("star", "rest", "across") for token in tokens) <= _FEW_STARS:
        match = re.compile("".join(map(_expression, tokens))).fullmatch
        return lambda path: match(path) is not None
    return _States(tokens).match


def expression(pattern: str) -> str:
    """The same as the text of a regular expression over a whole path.

    Raises:
        InvalidArgument: as `compile_pattern`.
    """
    return "".join(map(_expression, _tokens(pattern)))


def _tokens(pattern: str) -> list[_Token]:
    out: list[_Token] = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        if pattern.startswith("**", position):
            position += 2
            if pattern.startswith("/", position):
                position += 1
            out.append(_Token("across" if position < len(pattern) else "rest"))
            continue
        position += 1
        if char == "*":
            out.append(_Token("star"))
        elif char == "?":
            out.append(_Token("any"))
        elif char == "[":
            text, position = _class(pattern, position)
            out.append(_Token("class", text))
        elif char == "\\":
            if position >= len(pattern):
                raise InvalidArgument(_BAD)
            out.append(_Token("char", pattern[position]))
            position += 1
        else:
            out.append(_Token("char", char))
    return out


def _class(pattern: str, position: int) -> tuple[str, int]:
    """A bracket from behind its `[`: as a regular expression, and where it ends."""
    parts: list[str] = []
    negated = pattern.startswith("^", position)
    position += negated
    while not (parts and pattern.startswith("]", position)):
        low, position = _class_char(pattern, position)
        high = low
        if pattern.startswith("-", position):
            high, position = _class_char(pattern, position + 1)
        if low <= high:
            parts.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            parts.append("")  # a range that is upside down holds nothing
    inside = "".join(parts)
    if not inside:
        return (r"[\s\S]" if negated else r"[^\s\S]"), position + 1
    return f"[{'^' if negated else ''}{inside}]", position + 1


def _class_char(pattern: str, position: int) -> tuple[str, int]:
    char = pattern[position : position + 1]
    if char in ("", "-", "]"):
        raise InvalidArgument(_BAD)
    if char == "\\":
        position += 1
        char = pattern[position : position + 1]
    # something must follow: the bracket has to close
    if not char or position + 1 >= len(pattern):
        raise InvalidArgument(_BAD)
    return char, position + 1


def _expression(token: _Token) -> str:
    if token.kind == "char":
        return re.escape(token.text)
    if token.kind == "class":
        return token.text
    return {"any": "[^/]", "star": "[^/]*", "rest": ".*", "across": "(?:.*/)?"}[token.kind]


class _States:
    """Walks a path with all the places in the pattern at once: bit N of a number is the place before token N.

    `across` has two places: before it, from where it may be passed over, and inside, which is left with a slash.
    """

    def __init__(self, tokens: list[_Token]) -> None:
        self._accepts: list[Callable[[str], tuple[bool, bool]]] = []
        self._skip_one = 0
        self._skip_two = 0
        for token in tokens:
            place = 1 << len(self._accepts)
            if token.kind in ("star", "rest"):
                self._skip_one |= place
            if token.kind == "across":
                self._skip_one |= place
                self._skip_two |= place
                self._accepts.append(_never)
            self._accepts.append(_acceptor(token))
        self._end = 1 << len(self._accepts)
        self._cache: dict[str, tuple[int, int]] = {}

    def match(self, path: str) -> bool:
        """Whether the whole path fits."""
        places = self._closed(1)
        for char in path:
            moves = self._cache.get(char) or self._moves(char)
            places = self._closed((places & moves[0]) << 1 | (places & moves[1]))
            if not places:
                return False
        return bool(places & self._end)

    def _moves(self, char: str) -> tuple[int, int]:
        forward = stay = 0
        for number, accepts in enumerate(self._accepts):
            moves, stays = accepts(char)
            forward |= moves << number
            stay |= stays << number
        self._cache[char] = forward, stay
        return forward, stay

    def _closed(self, places: int) -> int:
        while True:
            more = places | (places & self._skip_one) << 1 | (places & self._skip_two) << 2
            if more == places:
                return places
            places = more


def _never(_char: str) -> tuple[bool, bool]:
    return False, False


def _acceptor(token: _Token) -> Callable[[str], tuple[bool, bool]]:
    """For a character: whether it leads behind the token, and whether one may stay before it."""
    if token.kind == "char":
        return lambda char: (char == token.text, False)
    if token.kind == "any":
        return lambda char: (char != "/", False)
    if token.kind == "star":
        return lambda char: (False, char != "/")
    if token.kind == "rest":
        return lambda char: (False, char != "\n")
    if token.kind == "across":
        return lambda char: (char == "/", char != "\n")
    match = re.compile(token.text).fullmatch
    return lambda char: (match(char) is not None, False)
