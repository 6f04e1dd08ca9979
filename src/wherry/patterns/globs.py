"""Patterns of names and paths: Go's `path.Match`, and the language of `.dockerignore` with its `**`.

    component("*.c")     `*`, `?`, `[a-z]`, `[^a]`, and `\\` before what is meant itself; no star crosses a slash
    path("a/**/b")       a whole path: `*` and `?` within a name, `**` across names

The latter is moby's patternmatcher's, with its habits: `[^a]` matches a slash too, `**` never a newline. No regular
expression is made of a pattern, and nothing goes back: a name of N characters costs N steps, whatever the pattern.
"""

from wherry.errors import InvalidArgument
from wherry.patterns.automaton import Automaton

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    Match = Callable[[str], bool]
    Token = tuple[str, str, tuple[tuple[str, str], ...]]

CHAR, CLASS, NONE_OF, ANY, STAR, REST, ACROSS = "char", "class", "none of", "any", "star", "rest", "across"
_BAD = "syntax error in pattern"
_LONGEST = 4096  # of a path; a pattern that asks for more characters than that fits none
_SPECIAL = frozenset("*?[\\")


def special(pattern: str) -> bool:
    """Whether it is more than the name itself."""
    return not _SPECIAL.isdisjoint(pattern)


def escaped(name: str) -> str:
    """The pattern that fits this name alone."""
    return "".join(f"\\{char}" if char in _SPECIAL else char for char in name)


def component(pattern: str) -> "Match":
    """A function that tells whether the whole of a name is what `pattern` says.

    Raises:
        InvalidArgument: a bracket that does not close, is empty or holds a range without an end, or a backslash at
            the end.
    """
    return _matcher(tokens(pattern, across=False))


def path(pattern: str, *, below: bool = False) -> "Match":
    """A function that tells whether a path (relative, with slashes, clean) is what `pattern` says.

    Args:
        pattern: what is meant.
        below: what lies below a path that fits, fits too.

    Raises:
        InvalidArgument: as `component`.
    """
    found = tokens(pattern, across=True)
    return _as_text(pattern, found, below=below) or (_below(found) if below else _matcher(found))


def _as_text(pattern: str, found: "list[Token]", *, below: bool) -> "Match | None":
    """The two forms that moby compares as text: all that is special in them is `**` at the begin or the end."""
    kinds = [token for token in found if token[0] != CHAR]
    if not kinds or "\\" in pattern or "]" in pattern:
        return None
    if kinds == found[-1:] and kinds[0][0] == REST:
        front = pattern.removesuffix("/").removesuffix("**") if found[:-1] else ""
        return lambda name: name.startswith(front)
    if kinds != found[:1] or kinds[0][0] != ACROSS:
        return None
    end = pattern[2:]
    if below:
        inside = f"{end}/"
        return lambda name: inside in f"{name}/" or (end[0] == "/" and f"{name}/".startswith(inside[1:]))
    return lambda name: name.endswith(end) or (end[0] == "/" and name == end[1:])


def tokens(pattern: str, *, across: bool) -> "list[Token]":
    """The pieces of a pattern: kind, a literal character, the ranges of a bracket.

    Args:
        pattern: what is meant.
        across: whether `**` is more than a star.

    Raises:
        InvalidArgument: as `component`.
    """
    out: list[Token] = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        if across and pattern.startswith("**", position):
            position += 2
            if pattern.startswith("/", position):
                position += 1
            _add(out, ACROSS if position < len(pattern) else REST)
            continue
        position += 1
        if char == "*":
            _add(out, STAR)
        elif char == "?":
            out.append((ANY, "", ()))
        elif char == "[":
            kind, ranges, position = _bracket(pattern, position)
            out.append((kind, "", ranges))
        elif char == "\\":
            if position >= len(pattern):
                raise InvalidArgument(_BAD)
            out.append((CHAR, pattern[position], ()))
            position += 1
        else:
            out.append((CHAR, char, ()))
    return out


def _add(out: "list[Token]", kind: str) -> None:
    """One that may be passed over; the same twice is the same once."""
    if not out or out[-1][0] != kind:
        out.append((kind, "", ()))


def _bracket(pattern: str, position: int) -> "tuple[str, tuple[tuple[str, str], ...], int]":
    """A bracket from behind its `[`: its kind, its ranges, and where it ends."""
    ranges: list[tuple[str, str]] = []
    negated = pattern.startswith("^", position)
    position += negated
    count = 0
    while not (count and pattern.startswith("]", position)):
        low, position = _bound(pattern, position)
        high = low
        if pattern.startswith("-", position):
            high, position = _bound(pattern, position + 1)
        if low <= high:  # a range that is upside down holds nothing
            ranges.append((low, high))
        count += 1
    return (NONE_OF if negated else CLASS), tuple(ranges), position + 1


def _bound(pattern: str, position: int) -> "tuple[str, int]":
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


def _matcher(found: "list[Token]") -> "Match":
    kinds = [token[0] for token in found if token[0] != CHAR]
    text = "".join(token[1] for token in found)
    if not kinds:
        return text.__eq__
    if kinds == [STAR]:
        at = [token[0] for token in found].index(STAR)
        front, end = text[:at], text[at:]

        def one_star(name: str) -> bool:
            last = len(name) - len(end)
            return last >= at and name.startswith(front) and name.endswith(end) and name.find("/", at, last) < 0

        return one_star
    if kinds == [ACROSS, STAR] and found[1][0] == STAR and "/" not in text:
        return lambda name: name.endswith(text) and name.find("\n", 0, name.rfind("/") + 1) < 0
    if sum(token[0] not in (STAR, REST, ACROSS) for token in found) > _LONGEST:
        return _never
    places = Places(found)
    return places.match


def _below(found: "list[Token]") -> "Match":
    if all(token[0] == CHAR for token in found):
        text = "".join(token[1] for token in found)
        return lambda name: name == text or name.startswith(f"{text}/")
    if sum(token[0] not in (STAR, REST, ACROSS) for token in found) > _LONGEST:
        return _never
    places = Places(found)
    return lambda name: places.match(name, below=True)


def _never(_name: str) -> bool:
    return False


class Places(Automaton):
    """All the places in a pattern at once: bit N of a number is the place before token N.

    `across` has two places: before it, from where it may be passed over, and inside, which is left with a slash.

    Args:
        found: as `tokens` gives them.
    """

    def __init__(self, found: "list[Token]") -> None:
        self._accepting: list[Token | None] = []
        self._skip_one = 0
        self._skip_two = 0
        for token in found:
            place = 1 << len(self._accepting)
            if token[0] in (STAR, REST):
                self._skip_one |= place
            if token[0] == ACROSS:
                self._skip_one |= place
                self._skip_two |= place
                self._accepting.append(None)
            self._accepting.append(token)
        self._end = 1 << len(self._accepting)
        self._moves: dict[str, tuple[int, int]] = {}
        super().__init__(self._closed(1))

    def match(self, name: str, *, below: bool = False) -> bool:
        """Whether the whole name fits, or, with `below`, a directory that it is in."""
        state = self.first
        for char in name:
            if below and char == "/" and state.accepts:
                return True
            following = state.get(char)
            if following is None:
                following = self.step(state, char)
            if not following.places:
                return False
            state = following
        return state.accepts

    def accepts(self, places: "Hashable") -> bool:
        """Whether the pattern is at its end."""
        assert isinstance(places, int)
        return bool(places & self._end)

    def advance(self, places: "Hashable", char: str) -> int:
        """The places behind a character."""
        assert isinstance(places, int)
        forward, stay = self._moves.get(char) or self._learn(char)
        return self._closed((places & forward) << 1 | (places & stay))

    def _learn(self, char: str) -> tuple[int, int]:
        forward = stay = 0
        for number, token in enumerate(self._accepting):
            if token is None:
                continue
            moves, stays = _accepts(token, char)
            forward |= moves << number
            stay |= stays << number
        if len(self._moves) > 256:
            self._moves.clear()
        self._moves[char] = forward, stay
        return forward, stay

    def _closed(self, places: int) -> int:
        # never more than three in a row can be passed over
        while True:
            more = places | (places & self._skip_one) << 1 | (places & self._skip_two) << 2
            if more == places:
                return places
            places = more


def _accepts(token: "Token", char: str) -> tuple[bool, bool]:
    """Whether a character leads behind the token, and whether one may stay before it."""
    kind, text, ranges = token
    if kind == CHAR:
        return char == text, False
    if kind == ANY:
        return char != "/", False
    if kind == STAR:
        return False, char != "/"
    if kind == REST:
        return False, char != "\n"
    if kind == ACROSS:
        return char == "/", char != "\n"
    return any(low <= char <= high for low, high in ranges) == (kind == CLASS), False
