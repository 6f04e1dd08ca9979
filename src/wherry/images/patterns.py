"""Shell patterns as Go's `path.Match` reads them: what `--filter reference=` takes.

`*` and `?` stop at a slash; `[a-z]`, `[^a-z]` are classes; a backslash takes the next character as it is. Matching
takes at most pattern length times name length steps, whatever the pattern: it comes from an API caller.
"""

from wherry.errors import InvalidArgument

# a star, or the set of what one place takes: (negated, ranges)
_Place = tuple[bool, tuple[tuple[str, str], ...]]
_ANY: _Place = (True, (("/", "/"),))


class Pattern:
    """A compiled pattern.

    Raises:
        InvalidArgument: `syntax error in pattern`.
    """

    __slots__ = ("_places",)

    def __init__(self, pattern: str) -> None:
        self._places = _compile(pattern)

    def matches(self, name: str) -> bool:
        """Whether the whole of `name` fits."""
        places = self._places
        place = at = 0
        star = resume = -1
        while at < len(name):
            if place < len(places) and places[place] is None:
                star, resume = place, at
                place += 1
                continue
            if place < len(places) and _takes(places[place], name[at]):
                place += 1
                at += 1
                continue
            if star < 0 or name[resume] == "/":
                return False
            # let the last star take one character more; earlier stars need not be tried again
            resume += 1
            place, at = star + 1, resume
        return all(rest is None for rest in places[place:])


def _takes(place: _Place | None, char: str) -> bool:
    if place is None:
        return False
    negated, ranges = place
    return any(low <= char <= high for low, high in ranges) != negated


def _compile(pattern: str) -> list[_Place | None]:
    places: list[_Place | None] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "*":
            if not places or places[-1] is not None:
                places.append(None)
            at += 1
        elif char == "?":
            places.append(_ANY)
            at += 1
        elif char == "[":
            place, at = _class(pattern, at + 1)
            places.append(place)
        else:
            char, at = _char(pattern, at)
            places.append((False, ((char, char),)))
    return places


def _class(pattern: str, at: int) -> tuple[_Place, int]:
    negated = pattern[at : at + 1] == "^"
    at += negated
    ranges: list[tuple[str, str]] = []
    while pattern[at : at + 1] != "]" or not ranges:
        if pattern[at : at + 1] in ("", "-", "]"):
            raise InvalidArgument("syntax error in pattern")
        low, at = _char(pattern, at)
        high = low
        if pattern[at : at + 1] == "-":
            high, at = _char(pattern, at + 1)
        ranges.append((low, high))
    return (negated, tuple(ranges)), at + 1


def _char(pattern: str, at: int) -> tuple[str, int]:
    if pattern[at : at + 1] == "\\":
        at += 1
    if at >= len(pattern):
        raise InvalidArgument("syntax error in pattern")
    return pattern[at], at + 1
