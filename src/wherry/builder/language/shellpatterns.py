"""The patterns of `${name#pattern}`, `${name%pattern}` and `${name/pattern/text}`: `*`, `?`, and `\\` before them.

No regular expression of the file's author is ever built: a pattern is cut at its stars into pieces, and pieces are
found one after the other, so that the time is bounded by the lengths, never by the number of stars. As in BuildKit
neither `*` nor `?` matches a newline, and brackets are ordinary characters.
"""

import re

MAX_PATTERN = 4096
"""Longest pattern."""

MAX_WORK = 1 << 23
"""Length of a value times length of a pattern's longest piece; a piece with many `?` is tried at every place, and no
other thread works meanwhile."""


class Pattern:
    """A compiled pattern.

    Raises:
        ValueError: a backslash escapes something that needs none, or the pattern is longer than `MAX_PATTERN`; later,
            a value for which it is too long (`MAX_WORK`).
    """

    def __init__(self, text: str) -> None:
        if len(text) > MAX_PATTERN:
            raise ValueError(f"longer than {MAX_PATTERN} characters")
        pieces: list[list[str]] = [[]]
        chars = iter(text)
        for char in chars:
            if char == "*":
                pieces.append([])
            elif char == "?":
                pieces[-1].append("")
            elif char == "\\":
                escaped = next(chars, "")
                if not escaped or escaped not in "*?\\/}":
                    raise ValueError(f"invalid escape '\\{escaped or chr(0xFFFD)}'")
                pieces[-1].append(escaped)
            else:
                pieces[-1].append(char)
        self._pieces = pieces

    def prefix(self, value: str, *, longest: bool) -> str:
        """`value` without the shortest or longest beginning that matches."""
        end = _Matcher(self._pieces, value).from_start(0, longest=longest)
        return value if end is None else value[end:]

    def suffix(self, value: str, *, longest: bool) -> str:
        """`value` without the shortest or longest end that matches."""
        backwards = [piece[::-1] for piece in reversed(self._pieces)]
        end = _Matcher(backwards, value[::-1]).from_start(0, longest=longest)
        return value if end is None else value[: len(value) - end]

    def replace(self, value: str, replacement: str, *, every: bool) -> str:
        """`value` with the first, or every, leftmost longest match replaced."""
        matcher = _Matcher(self._pieces, value)
        out: list[str] = []
        position, copied, last_end = 0, 0, -1
        while position <= len(value):
            found = matcher.search(position)
            if found is None:
                break
            start, end = found
            if end == start == last_end:  # an empty match right behind a match is none
                position = end + 1
                continue
            out += (value[copied:start], replacement)
            copied = last_end = end
            if not every:
                break
            position = end if end > start else end + 1
        return "".join((*out, value[copied:]))


class _Matcher:
    def __init__(self, pieces: list[list[str]], value: str) -> None:
        if len(value) * max(map(len, pieces)) > MAX_WORK:
            raise ValueError("too long for a value of this length")
        self.value = value
        self.pieces = pieces
        self._searches = [
            re.compile("".join("." if char == "" else re.escape(char) for char in piece)) for piece in pieces
        ]

    def from_start(self, position: int, *, longest: bool) -> int | None:
        """Where a match that begins at `position` ends: its shortest or its longest end; None without a match."""
        first = self._searches[0].match(self.value, position)
        return None if first is None else self._rest(first.end(), longest=longest)

    def search(self, position: int) -> tuple[int, int] | None:
        """The leftmost match at or after `position`, as long as it can be."""
        window = -1
        starred = len(self.pieces) > 1 and not self.pieces[0]
        while position <= len(self.value):
            first = self._searches[0].search(self.value, position)
            if first is None:
                return None
            # where an earlier start on the same line failed, a later one must fail too
            line_end = self._line_end(first.end())
            if line_end != window:
                end = self._rest(first.end(), longest=True)
                if end is not None:
                    return first.start(), end
                window = line_end
            position = line_end + 1 if starred else first.start() + 1
        return None

    def _rest(self, position: int, *, longest: bool) -> int | None:
        last = len(self.pieces) - 1
        for index in range(1, last + 1):
            line_end = self._line_end(position)
            if index == last and not self.pieces[index]:
                return line_end if longest else position
            found = self._find(index, position, line_end, last_one=longest and index == last)
            if found is None:
                return None
            position = found
        return position

    def _find(self, index: int, position: int, line_end: int, *, last_one: bool) -> int | None:
        """End of the first (or last) occurrence of a piece that starts between `position` and `line_end`."""
        piece, search = self.pieces[index], self._searches[index]
        if last_one and "" in piece:
            for start in range(line_end, position - 1, -1):
                match = search.match(self.value, start)
                if match:
                    return match.end()
            return None
        if last_one:
            start = self.value.rfind("".join(piece), position, line_end + len(piece))
            return None if start < 0 else start + len(piece)
        match = search.search(self.value, position, min(len(self.value), line_end + len(piece)))
        return None if match is None else match.end()

    def _line_end(self, position: int) -> int:
        found = self.value.find("\n", position)
        return len(self.value) if found < 0 else found
