"""A Dockerfile's lines: continuations joined, comments and parser directives told apart, heredoc bodies given raw.

Text is kept as it came: bytes that are no UTF-8 travel as surrogates (`surrogateescape`) and come out unchanged.
"""

import re
from dataclasses import dataclass

from wherry.builder.language.errors import DockerfileError
from wherry.values.gotext import SPACE

MAX_LINE = 65536
"""A line with its end may be this long (BuildKit's scanner)."""

MAX_FILE = 4 << 20
"""Longest Dockerfile in bytes."""

_BLANKS = "\t\n\f\r "
_DIRECTIVE = re.compile(r"([a-zA-Z][a-zA-Z0-9]*)[\t\n\f\r ]*=[\t\n\f\r ]*")
_DIRECTIVES = frozenset(("syntax", "escape", "check"))


@dataclass(frozen=True, slots=True)
class Directive:
    """`# name=value` at the head of the file."""

    name: str
    value: str
    line: int


@dataclass(frozen=True, slots=True)
class LogicalLine:
    """An instruction with its continuation lines joined.

    Args:
        text: the joined text.
        first: its first line, 1-based.
        last: its last line.
        comments: the comment lines right above it, without `#`.
        empty_continuation: an empty line stood among the continuation lines.
    """

    text: str
    first: int
    last: int
    comments: tuple[str, ...]
    empty_continuation: bool


def read_directive(line: str, prefix: str = "#") -> tuple[str, str] | None:
    """Name (lower case) and value of a directive line without its newline, or None if it is none."""
    if not line.startswith(prefix):
        return None
    rest = line[len(prefix) :].lstrip(SPACE)
    match = _DIRECTIVE.match(rest)
    if match is None or match[1].lower() not in _DIRECTIVES:
        return None
    value = rest[match.end() :].rstrip(_BLANKS)
    if not value:  # blanks alone: the last of them is the value
        value = rest[-1] if rest[-1] in _BLANKS else ""
    return (match[1].lower(), value) if value else None


def find_directive(data: bytes, name: str) -> str | None:
    """The first word of a directive's value, without reading the rest of the file; None where there is none.

    A `#!` line may stand above the directives here.
    """
    text = data[:MAX_LINE].removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    lines = text.split("\n")
    seen: set[str] = set()
    for line in lines[1:] if lines[0].startswith("#!") else lines:
        found = read_directive(line.removesuffix("\r"))
        if found is None or found[0] in seen:
            return None
        if found[0] == name:
            return found[1].split(" ")[0]
        seen.add(found[0])
    return None


class Reader:
    """Reads logical lines one after the other.

    Args:
        data: the file's bytes.

    Raises:
        DockerfileError: the file is longer than `MAX_FILE`.
    """

    def __init__(self, data: bytes) -> None:
        if len(data) > MAX_FILE:
            raise DockerfileError(f"the Dockerfile is larger than {MAX_FILE} bytes")
        self.directives: list[Directive] = []
        self.escape = "\\"
        self.line = 0
        self.too_long = False
        text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
        self._lines = _split(text)
        self._directives_done = False

    def raw(self) -> str | None:
        """The next physical line with its newline; None at the end, or where a line is too long."""
        if self.line >= len(self._lines) or self.too_long:
            return None
        line = self._lines[self.line]
        size = len(line) if line.isascii() else len(line.encode("utf-8", "surrogateescape"))
        if size > MAX_LINE or (size == MAX_LINE and not line.endswith("\n")):
            self.too_long = True
            return None
        self.line += 1
        return line

    def check_length(self) -> None:
        """Raise what made `raw` end early."""
        if self.too_long:
            raise DockerfileError(
                f"dockerfile line greater than max allowed size of {MAX_LINE - 1}", (self.line + 1, self.line + 1)
            )

    def logical(self) -> LogicalLine | None:
        """The next instruction; None at the end.

        Raises:
            DockerfileError: a directive given twice, or an escape character that cannot be one.
        """
        comments: list[str] = []
        while True:
            line = self.raw()
            if line is None:
                return None
            body = line.rstrip("\r\n").lstrip(SPACE)
            directive = self._directive(body)
            if body.startswith("#"):
                comment = line[1:].strip(SPACE)
                if directive or not comment:
                    comments = comments if directive else []
                else:
                    comments.append(comment)
            first = self.line
            text, more = self._continues("" if body.startswith("#") else body)
            if more or text:
                break
        parts = [text]
        empty = False
        while more:
            line = self.raw()
            if line is None:
                break
            body = line.rstrip("\r\n")
            start = body.lstrip(SPACE)
            self._directive(body)
            if start.startswith("#"):
                continue
            if not start:
                empty = True
                continue
            text, more = self._continues(body)
            parts.append(text)
        return LogicalLine("".join(parts), first, self.line, tuple(comments), empty)

    def _directive(self, line: str) -> bool:
        if self._directives_done:
            return False
        found = read_directive(line)
        if found is None:
            self._directives_done = True
            return False
        name, value = found
        if any(known.name == name for known in self.directives):
            raise DockerfileError(f"only one {name} parser directive can be used", (self.line, self.line))
        if name == "escape":
            if value not in ("\\", "`"):
                raise DockerfileError(f"invalid escape token '{value}' does not match ` or \\", (self.line, self.line))
            self.escape = value
        self.directives.append(Directive(name, value, self.line))
        return True

    def _continues(self, line: str) -> tuple[str, bool]:
        """The line without its continuation character, and whether it had one."""
        body = line.rstrip(" \t")
        if body.endswith(self.escape) and body[-2:-1] != self.escape:
            return body[:-1], True
        return line, False


def _split(text: str) -> list[str]:
    lines = text.split("\n")
    out = [line + "\n" for line in lines[:-1]]
    if lines[-1]:
        out.append(lines[-1])
    return out
