"""Regular expressions of a caller's, in the syntax of Go's regexp, which is RE2's: found in linear time.

    a|b  (a)  (?:a)  (?i)  [a-z]  [[:alpha:]]  \\d \\w \\s  .  ^ $ \\b  *  +  ?  {2,3}

Only whether a text has a match is told, so that groups and laziness mean nothing. What RE2 refuses (references back,
looking ahead) is refused here too.
"""

from wherry.errors import InvalidArgument
from wherry.patterns.automaton import Automaton
from wherry.patterns.syntax import (
    BEGIN,
    BOUNDARY,
    CONSUME,
    END,
    JUMP,
    LINE_BEGIN,
    LINE_END,
    NO_BOUNDARY,
    SPLIT,
    compile_program,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable

    from wherry.patterns.syntax import Step

_OVER = "over"  # behind the last character: no character is two
_NOTHING, _NEWLINE, _WORD, _OTHER = "nothing", "newline", "word", "other"
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-/ :,=@%&~\"'<>;!")


class Expression:
    """A compiled expression.

    Args:
        text: as its author wrote it.

    Raises:
        InvalidArgument: it is none; in the words of Go's regexp.
    """

    def __init__(self, text: str) -> None:
        begins, ends = text.startswith("^"), text.endswith("$")
        inner = text[begins : len(text) - ends]
        self._plain: tuple[str, bool, bool] | None = None
        if _PLAIN.issuperset(inner):
            self._plain = inner, begins, ends
            return
        self._walk = _Walk(compile_program(text))

    def search(self, text: str) -> bool:
        """Whether a part of `text` matches."""
        if self._plain is None:
            return self._walk.search(text)
        inner, begins, ends = self._plain
        if begins and ends:
            return text == inner
        if begins:
            return text.startswith(inner)
        return text.endswith(inner) if ends else inner in text


def search(pattern: str, text: str) -> bool:
    """Whether a part of `text` matches; a pattern that is none matches nothing."""
    try:
        return Expression(pattern).search(text)
    except InvalidArgument:
        return False


class _Walk(Automaton):
    """Places are (steps of the program before which one stands, kind of the last character); True: it matched."""

    def __init__(self, program: "list[Step]") -> None:
        self._program = program
        super().__init__((1, _NOTHING))

    def search(self, text: str) -> bool:
        state = self.first
        for char in text:
            following = state.get(char)
            if following is None:
                following = self.step(state, char)
            if following.accepts:
                return True
            state = following
        following = state.get(_OVER)
        return (following if following is not None else self.step(state, _OVER)).accepts

    def accepts(self, places: "Hashable") -> bool:
        return places is True

    def advance(self, places: "Hashable", char: str) -> "Hashable":
        assert isinstance(places, tuple)
        standing, before = places
        after = _kind(char)
        following = 1  # a match may begin anywhere
        seen = standing
        todo = [number for number in range(standing.bit_length()) if standing >> number & 1]
        while todo:
            number = todo.pop()
            if number == len(self._program):
                return True
            step = self._program[number]
            onward: tuple[int, ...] = ()
            if step[0] == CONSUME:
                if char != _OVER and step[1](char):
                    following |= 1 << (number + 1)
            elif step[0] in (SPLIT, JUMP):
                onward = step[2]
            elif _holds(step[0], before, after):
                onward = (number + 1,)
            for one in onward:
                if not seen >> one & 1:
                    seen |= 1 << one
                    todo.append(one)
        return following, after


def _kind(char: str) -> str:
    if char == _OVER:
        return _NOTHING
    if char == "\n":
        return _NEWLINE
    return _WORD if char == "_" or (char.isascii() and char.isalnum()) else _OTHER


def _holds(what: str, before: str, after: str) -> bool:
    if what == BEGIN:
        return before == _NOTHING
    if what == END:
        return after == _NOTHING
    if what == LINE_BEGIN:
        return before in (_NOTHING, _NEWLINE)
    if what == LINE_END:
        return after in (_NOTHING, _NEWLINE)
    assert what in (BOUNDARY, NO_BOUNDARY)
    return ((before == _WORD) != (after == _WORD)) == (what == BOUNDARY)
