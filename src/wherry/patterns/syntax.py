"""What an expression says, as a program: steps that take a character, and steps that lead on without one."""

from wherry.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Test = Callable[[str], bool]
    Step = tuple[str, Test, tuple[int, ...]]
    Ranges = list[tuple[str, str]]

CONSUME, SPLIT, JUMP = "consume", "split", "jump"
BEGIN, END, LINE_BEGIN, LINE_END = "begin", "end", "line begin", "line end"
BOUNDARY, NO_BOUNDARY = "boundary", "no boundary"

MAX_STEPS = 2000
"""Steps of one program; an expression that repeats itself is written out."""
_MAX_DEPTH = 100
_MAX_REPEAT = 1000
_TOP = "\U0010ffff"
_CLASSES: "dict[str, Ranges]" = {
    "d": [("0", "9")],
    "s": [("\t", "\n"), ("\f", "\r"), (" ", " ")],
    "w": [("0", "9"), ("A", "Z"), ("_", "_"), ("a", "z")],
}
_NAMED: "dict[str, Ranges]" = {
    "alnum": [("0", "9"), ("A", "Z"), ("a", "z")],
    "alpha": [("A", "Z"), ("a", "z")],
    "ascii": [("\0", "\x7f")],
    "blank": [("\t", "\t"), (" ", " ")],
    "cntrl": [("\0", "\x1f"), ("\x7f", "\x7f")],
    "digit": _CLASSES["d"],
    "graph": [("!", "~")],
    "lower": [("a", "z")],
    "print": [(" ", "~")],
    "punct": [("!", "/"), (":", "@"), ("[", "`"), ("{", "~")],
    "space": [("\t", "\r"), (" ", " ")],
    "upper": [("A", "Z")],
    "word": _CLASSES["w"],
    "xdigit": [("0", "9"), ("A", "F"), ("a", "f")],
}
_SINGLE = {"a": "\a", "f": "\f", "t": "\t", "n": "\n", "r": "\r", "v": "\v"}
_ASSERTIONS = {"A": BEGIN, "z": END, "b": BOUNDARY, "B": NO_BOUNDARY}


def compile_program(text: str) -> "list[Step]":
    """The steps of an expression; behind the last one it has matched.

    Raises:
        InvalidArgument: in the words of Go's regexp.
    """
    return _Reader(text).program()


def _error(why: str, what: str) -> InvalidArgument:
    return InvalidArgument(f"error parsing regexp: {why}: `{what}`")


def _nothing(_char: str) -> bool:
    return False


class _Reader:
    """Reads an expression from left to right; a piece is a list of steps whose targets count from its own begin."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._fold = self._dot_all = self._lines = False

    def program(self) -> "list[Step]":
        found = self._alternatives(0)
        if self._at < len(self._text):
            raise _error("unexpected )", self._text)
        return found

    def _peek(self, count: int = 1) -> str:
        return self._text[self._at : self._at + count]

    def _alternatives(self, depth: int) -> "list[Step]":
        if depth > _MAX_DEPTH:
            raise _error("expression nests too deeply", self._text[:100])
        pieces = [self._sequence(depth)]
        while self._peek() == "|":
            self._at += 1
            pieces.append(self._sequence(depth))
        found = pieces.pop()
        for piece in reversed(pieces):
            end = len(piece) + 2
            head: Step = (SPLIT, _nothing, (1, end))
            over: Step = (JUMP, _nothing, (end + len(found),))
            found = self._sized([head, *_moved(piece, 1), over, *_moved(found, end)])
        return found

    def _sequence(self, depth: int) -> "list[Step]":
        out: list[Step] = []
        last: list[Step] | None = None
        repeated = ""
        while self._at < len(self._text) and self._peek() not in "|)":
            start = self._at
            operator = self._repetition()
            if operator is None:
                if last is not None:
                    out += _moved(last, len(out))
                last, repeated = self._atom(depth), ""
            else:
                shown = self._text[start : self._at]
                if last is None:
                    raise _error("missing argument to repetition operator", shown)
                if repeated:
                    raise _error("invalid nested repetition operator", repeated + shown)
                last, repeated = self._sized(_repeat(last, *operator)), shown
            self._sized(out)
        if last is not None:
            out += _moved(last, len(out))
        return self._sized(out)

    def _sized(self, steps: "list[Step]") -> "list[Step]":
        if len(steps) > MAX_STEPS:
            raise InvalidArgument(f"error parsing regexp: expression too large: `{self._text[:100]}`")
        return steps

    def _repetition(self) -> "tuple[int, int] | None":
        """How often, at least and at most (-1: without end), if that stands here."""
        char = self._peek()
        found = {"*": (0, -1), "+": (1, -1), "?": (0, 1)}.get(char)
        if found is not None:
            self._at += 1
        elif char == "{":
            end = self._text.find("}", self._at, self._at + 12)
            low, comma, high = self._text[self._at + 1 : max(end, 0)].partition(",")
            if end < 0 or not _number(low) or (high and not _number(high)):
                return None  # an ordinary character
            least = int(low)
            most = (int(high) if high else -1) if comma else least
            if max(least, most) > _MAX_REPEAT or 0 <= most < least:
                raise _error("invalid repeat count", self._text[self._at : end + 1])
            found, self._at = (least, most), end + 1
        else:
            return None
        if self._peek() == "?":  # as few as can be: whether there is a match is the same
            self._at += 1
        return found

    def _atom(self, depth: int) -> "list[Step]":
        char = self._peek()
        self._at += 1
        if char == "(":
            return self._group(depth)
        if char == "[":
            return [(CONSUME, self._bracket(), ())]
        if char == ".":
            return [(CONSUME, _not_newline if not self._dot_all else _anything, ())]
        if char == "^":
            return [(LINE_BEGIN if self._lines else BEGIN, _nothing, ())]
        if char == "$":
            return [(LINE_END if self._lines else END, _nothing, ())]
        if char == "\\":
            return self._escaped()
        return [self._literal(char)]

    def _literal(self, char: str) -> "Step":
        if self._fold:
            return (CONSUME, _in([(one, one) for one in _folded(char)]), ())
        return (CONSUME, char.__eq__, ())

    def _group(self, depth: int) -> "list[Step]":
        before = self._fold, self._dot_all, self._lines
        if self._peek() == "?":
            end = self._name()
            if end:
                self._at = end
            elif self._flags():
                return []
        found = self._alternatives(depth + 1)
        if self._peek() != ")":
            raise _error("missing closing )", self._text)
        self._at += 1
        self._fold, self._dot_all, self._lines = before
        return found

    def _name(self) -> int:
        """Where the name of a group ends; 0 where there is none."""
        for lead in ("?P<", "?<"):
            first = self._at + len(lead)
            if self._text.startswith(lead, self._at) and self._text[first : first + 1] not in ("", "=", "!"):
                end = self._text.find(">", self._at)
                if end < 0:
                    raise _error("invalid named capture", self._text[self._at - 1 :])
                name = self._text[first:end]
                if not name or not all(char == "_" or char.isalnum() for char in name):
                    raise _error("invalid named capture", self._text[self._at - 1 : end + 1])
                return end + 1
        return 0

    def _flags(self) -> bool:
        """Read `?i:` or `?i)`; says whether it was the latter."""
        start = self._at - 1
        self._at += 1
        on = True
        while char := self._peek():
            self._at += 1
            if char in ":)":
                return char == ")"
            if char == "-" and on:
                on = False
            elif char == "i":
                self._fold = on
            elif char == "s":
                self._dot_all = on
            elif char == "m":
                self._lines = on
            elif char != "U":
                break
        raise _error("invalid or unsupported Perl syntax", self._text[start : self._at])

    def _escaped(self) -> "list[Step]":
        char = self._peek()
        if not char:
            raise _error("trailing backslash at end of expression", "")
        if char in _ASSERTIONS:
            self._at += 1
            return [(_ASSERTIONS[char], _nothing, ())]
        if char == "Q":
            end = self._text.find("\\E", self._at)
            end = len(self._text) if end < 0 else end
            literal = self._text[self._at + 1 : end]
            self._at = min(end + 2, len(self._text))
            return self._sized([self._literal(one) for one in literal])
        ranges = self._class_escape()
        if ranges is not None:
            return [(CONSUME, _in(ranges), ())]
        return [self._literal(self._char_escape())]

    def _class_escape(self) -> "Ranges | None":
        """`\\d` and its like, behind the backslash."""
        char = self._peek()
        if char.lower() not in _CLASSES:
            return None
        self._at += 1
        found = _CLASSES[char.lower()]
        return found if char.islower() else _others(found)

    def _char_escape(self) -> str:
        """One character, behind the backslash."""
        char = self._peek()
        self._at += 1
        if char in _SINGLE:
            return _SINGLE[char]
        if char == "x":
            return self._hexadecimal()
        if char and not (char.isascii() and char.isalnum()) and char != "_":
            return char
        if char == "0":
            digits = char
            while len(digits) < 3 and self._peek() and self._peek() in "01234567":
                digits += self._peek()
                self._at += 1
            return chr(int(digits, 8))
        raise _error("invalid escape sequence", f"\\{char}")

    def _hexadecimal(self) -> str:
        if self._peek() == "{":
            end = self._text.find("}", self._at, self._at + 10)
            digits, self._at = (self._text[self._at + 1 : max(end, 0)], end + 1) if end > 0 else ("", self._at)
        else:
            digits = self._peek(2) if len(self._peek(2)) == 2 else ""
            self._at += 2
        if not digits or any(char not in "0123456789abcdefABCDEF" for char in digits) or int(digits, 16) > ord(_TOP):
            raise _error("invalid escape sequence", f"\\x{digits}")
        return chr(int(digits, 16))

    def _bracket(self) -> "Test":
        start = self._at - 1
        negated = self._peek() == "^"
        self._at += negated
        ranges: Ranges = []
        first = True
        while first or self._peek() != "]":
            if not self._peek():
                raise _error("missing closing ]", self._text[start:])
            self._member(ranges, first=first)
            first = False
        self._at += 1
        if self._fold:
            ranges = _folded_ranges(ranges)
        return _in(_others(ranges) if negated else ranges)

    def _member(self, ranges: "Ranges", *, first: bool) -> None:
        start = self._at
        if self._peek() == "-" and not first and self._peek(2) != "-]":
            raise _error("invalid character class range", self._peek(2))
        if self._peek(2) == "[:":
            end = self._text.find(":]", self._at)
            if end >= 0:
                name = self._text[self._at + 2 : end]
                found = _NAMED.get(name.removeprefix("^"))
                if found is None:
                    raise _error("invalid character class range", self._text[self._at : end + 2])
                ranges += _others(found) if name.startswith("^") else found
                self._at = end + 2
                return
        if self._peek() == "\\":
            self._at += 1
            whole = self._class_escape()
            if whole is not None:
                ranges += whole
                return
            self._at -= 1
        low = high = self._class_char()
        if self._peek() == "-" and self._peek(2) not in ("-]", "-"):
            self._at += 1
            high = self._class_char()
            if high < low:
                raise _error("invalid character class range", self._text[start : self._at])
        ranges.append((low, high))

    def _class_char(self) -> str:
        char = self._peek()
        if not char:
            raise _error("missing closing ]", self._text)
        self._at += 1
        if char == "\\":
            if not self._peek():
                raise _error("trailing backslash at end of expression", "")
            return self._char_escape()
        return char


def _moved(steps: "list[Step]", by: int) -> "list[Step]":
    if not by:
        return steps
    return [(kind, test, tuple(target + by for target in targets)) for kind, test, targets in steps]


def _repeat(steps: "list[Step]", least: int, most: int) -> "list[Step]":
    size = len(steps)
    if size * max(least, most) > MAX_STEPS:
        raise InvalidArgument("error parsing regexp: expression too large")
    out: list[Step] = []
    for _ in range(least):
        out += _moved(steps, len(out))
    if most < 0:
        begin = len(out)
        out.append((SPLIT, _nothing, (begin + 1, begin + size + 2)))
        out += _moved(steps, begin + 1)
        out.append((JUMP, _nothing, (begin,)))
        return out
    end = len(out) + (most - least) * (size + 1)
    for _ in range(most - least):
        out.append((SPLIT, _nothing, (len(out) + 1, end)))
        out += _moved(steps, len(out))
    return out


def _number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 6


def _anything(_char: str) -> bool:
    return True


def _not_newline(char: str) -> bool:
    return char != "\n"


def _in(ranges: "Ranges") -> "Test":
    kept = tuple(_merged(ranges))
    return lambda char: any(low <= char <= high for low, high in kept)


def _merged(ranges: "Ranges") -> "Ranges":
    out: Ranges = []
    for low, high in sorted(ranges):
        if out and ord(low) <= ord(out[-1][1]) + 1:
            out[-1] = out[-1][0], max(high, out[-1][1])
        else:
            out.append((low, high))
    return out


def _others(ranges: "Ranges") -> "Ranges":
    out: Ranges = []
    following = 0
    for low, high in _merged(ranges):
        if ord(low) > following:
            out.append((chr(following), chr(ord(low) - 1)))
        following = ord(high) + 1
    if following <= ord(_TOP):
        out.append((chr(following), _TOP))
    return out


def _folded(char: str) -> "set[str]":
    return {char} | {one for one in (char.lower(), char.upper()) if len(one) == 1}


def _folded_ranges(ranges: "Ranges") -> "Ranges":
    """Letters of ASCII in both cases; others as they are written, and their other case where they stand alone."""
    out = list(ranges)
    for low, high in ranges:
        if low == high:
            out += [(one, one) for one in _folded(low)]
        for first, last, move in (("a", "z", -32), ("A", "Z", 32)):
            begin, end = max(low, first), min(high, last)
            if begin <= end:
                out.append((chr(ord(begin) + move), chr(ord(end) + move)))
    return out
