"""`<<EOF`: which words of a line announce a heredoc, and what becomes of its body."""

import re
from dataclasses import dataclass

from wherry.builder.language.shellwords import Lexer
from wherry.errors import InvalidArgument
from wherry.values.gotext import SPACE

_WORD = re.compile(r"(\d*)<<(-?)[\t\n\f\r ]*([^<]*)", re.ASCII)
_LEADING_TABS = re.compile(r"^\t+", re.MULTILINE)
_BARE = Lexer(keep_unset=True)
_QUOTED = Lexer(keep_unset=True, raw_quotes=True)
_LINE = Lexer(keep_unset=True, raw_quotes=True, raw_escapes=True)


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A heredoc.

    Args:
        name: the word that ends it.
        expand: variables in the body are replaced (the name was not quoted).
        chomp: leading tabs are dropped (`<<-`).
        content: the body, each line with its newline, as it stands in the file.
        descriptor: the number before `<<`.
    """

    name: str
    expand: bool
    chomp: bool
    content: str = ""
    descriptor: int = 0

    @property
    def text(self) -> str:
        """The body as it is used: without leading tabs for `<<-`."""
        return _LEADING_TABS.sub("", self.content) if self.chomp else self.content


def parse_heredoc(word: str) -> Heredoc | None:
    """The heredoc that `word` announces, or None.

    Raises:
        InvalidArgument: the name has an open quote.
    """
    match = _WORD.fullmatch(word)
    if match is None or not match[3]:
        return None
    bare = _BARE.process_words(match[3], {})
    if len(bare) != 1:
        return None
    quoted = _QUOTED.process_words(match[3], {})
    if len(quoted) != 1:
        raise InvalidArgument(f"internal lexing of heredoc produced inconsistent results: {match[3]}")
    expand = _quotes(bare[0]) == _quotes(quoted[0])
    descriptor = int(match[1]) if match[1] and len(match[1]) < 19 else 0
    return Heredoc(bare[0], expand, match[2] == "-", descriptor=descriptor)


def heredoc_of(word: str) -> Heredoc | None:
    """`parse_heredoc` where a bad word was refused before."""
    try:
        return parse_heredoc(word)
    except InvalidArgument:
        return None


def heredocs_of_line(line: str) -> list[Heredoc]:
    """The heredocs that an instruction announces, in order, without their bodies.

    Raises:
        InvalidArgument: a name has an open quote.
    """
    try:
        words = _LINE.process_words(line, {})
    except InvalidArgument:
        return []
    found = (parse_heredoc(word) for word in words if "<<" in word)
    return [heredoc for heredoc in found if heredoc is not None]


def ends(line: str, heredoc: Heredoc) -> bool:
    """Whether a line of the body (with its newline) is the heredoc's end."""
    body = line.rstrip("\r\n")
    return (body.lstrip("\t") if heredoc.chomp else body) == heredoc.name


def summary(text: str) -> str:
    """The first line of a body, with dots when there are more: what progress shows."""
    lines = text.strip(SPACE).replace("\r\n", "\n").split("\n")
    return lines[0] + ("..." if len(lines) > 1 else "")


def _quotes(word: str) -> int:
    return word.count("'") + word.count('"')
