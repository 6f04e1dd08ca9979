"""From a Dockerfile's bytes to a tree: one node for each instruction, its flags and words cut, nothing judged yet.

The same tree as BuildKit's parser: `Document.dump` prints it in the form of its test files. What an instruction
means, and whether its name is one, is `instructions`' business.
"""

import json
import re
from dataclasses import dataclass, replace

from wherry.builder.language import heredocs
from wherry.builder.language.errors import DockerfileError, Location
from wherry.builder.language.heredocs import Heredoc
from wherry.builder.language.lexer import Directive, LogicalLine, Reader
from wherry.errors import InvalidArgument
from wherry.values.gotext import SPACE, quote, quote_list

_BLANKS = re.compile(r"[\t\v\f\r ]+")
_NOT_STRINGS = "when using JSON array syntax, arrays must be comprised of strings only"
MAX_INSTRUCTIONS = 20_000
"""So many instructions a Dockerfile may have."""

_MAX_ONBUILD = 20  # `ONBUILD ONBUILD …` is refused later; its tree need not be deeper

_JSON_OR_LIST = frozenset(("add", "copy", "volume"))
_JSON_OR_TEXT = frozenset(("cmd", "entrypoint", "run", "shell"))
_LIST = frozenset(("expose", "from"))
_TEXT = frozenset(("maintainer", "stopsignal", "user", "workdir"))
_PAIRS = frozenset(("env", "label"))
_TAKES_HEREDOCS = frozenset(("add", "copy", "run"))


@dataclass(frozen=True, slots=True)
class Node:
    """An instruction.

    Args:
        value: its name as written.
        flags: the `--name=value` words before its arguments.
        args: what comes after the flags, as written.
        words: the arguments, cut as this instruction's grammar says. For ENV and LABEL three for each pair: name,
            value, and `=` or "" (the old form with a blank).
        json: the arguments were a JSON array.
        sub: ONBUILD's instruction.
        heredocs: with their bodies.
        original: the joined line.
        start_line: its first line, 1-based.
        end_line: its last line, that of the last heredoc included.
        comments: the comment lines above it.
    """

    value: str
    flags: tuple[str, ...]
    args: str
    words: tuple[str, ...]
    json: bool
    sub: "Node | None"
    heredocs: tuple[Heredoc, ...]
    original: str
    start_line: int
    end_line: int
    comments: tuple[str, ...]

    @property
    def keyword(self) -> str:
        """The instruction's name in lower case."""
        return self.value.lower()

    @property
    def location(self) -> Location:
        """First and last line."""
        return self.start_line, self.end_line

    def dump(self) -> str:
        """The node as an s-expression, without the parentheses around it."""
        head = self.keyword + (" " + quote_list(self.flags) if self.flags else "")
        if self.sub is not None:
            return f"{head} ({self.sub.dump()})"
        return "".join((head, *(" " + quote(word) for word in self.words)))


@dataclass(frozen=True, slots=True)
class ParseWarning:
    """Something that works and should not be written so; `lint` names the rule."""

    message: str
    location: Location


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed Dockerfile.

    Args:
        name: what it is called in messages.
        source: its text.
        escape: the escape character in force.
        directives: parser directives, in order.
        nodes: the instructions.
        warnings: empty continuation lines.
    """

    name: str
    source: str
    escape: str
    directives: tuple[Directive, ...]
    nodes: tuple[Node, ...]
    warnings: tuple[ParseWarning, ...]

    def directive(self, name: str) -> str | None:
        """The value of a directive, or None."""
        return next((found.value for found in self.directives if found.name == name), None)

    def dump(self) -> str:
        """The tree, one instruction in parentheses for each line."""
        return "\n".join(f"({node.dump()})" for node in self.nodes)


def parse(data: bytes, name: str = "Dockerfile") -> Document:
    """Read a Dockerfile.

    Args:
        data: its bytes.
        name: what it is called in messages.

    Raises:
        DockerfileError: no instruction in it, a heredoc without end, a JSON array of something else than strings,
            an ENV or LABEL that is none, a wrong directive, a line or file that is too long, too many instructions.
    """
    reader = Reader(data)
    nodes: list[Node] = []
    warnings: list[ParseWarning] = []
    while True:
        line = reader.logical()
        if line is None:
            break
        if len(nodes) == MAX_INSTRUCTIONS:
            raise DockerfileError(
                f"the Dockerfile has more than {MAX_INSTRUCTIONS} instructions", (line.first, line.last)
            )
        if line.empty_continuation:
            text = f"Empty continuation line found in: {line.text}"
            warnings.append(ParseWarning(text, (line.last, line.last)))
        try:
            node = _node(line.text, reader.escape, line, 0)
            nodes.append(_with_heredocs(node, reader))
        except InvalidArgument as error:
            if isinstance(error, DockerfileError) and error.location:
                raise
            raise DockerfileError(error.message, (line.first, reader.line)) from None
    if not nodes:
        reader.check_length()
        raise DockerfileError("file with no instructions", (reader.line, reader.line))
    reader.check_length()
    source = data.decode("utf-8", "surrogateescape")
    return Document(name, source, reader.escape, tuple(reader.directives), tuple(nodes), tuple(warnings))


def _with_heredocs(node: Node, reader: Reader) -> Node:
    inner = node.sub if node.keyword == "onbuild" and node.sub is not None else node
    if "<<" not in node.original or inner.keyword not in _TAKES_HEREDOCS or inner.json:
        return node
    found: list[Heredoc] = []
    for heredoc in heredocs.heredocs_of_line(node.original):
        body: list[str] = []
        while True:
            line = reader.raw()
            if line is None:
                reader.check_length()
                raise DockerfileError("unterminated heredoc", (node.start_line, reader.line))
            if heredocs.ends(line, heredoc):
                break
            body.append(line)
        found.append(replace(heredoc, content="".join(body)))
    return replace(node, heredocs=tuple(found), end_line=reader.line)


def _node(text: str, escape: str, line: LogicalLine, depth: int) -> Node:
    parts = _BLANKS.split(text.strip(SPACE), maxsplit=1)
    flags, rest = _flags(parts[1], escape) if len(parts) == 2 else ([], "")
    args = rest.strip(SPACE)
    keyword = parts[0].lower()
    sub: Node | None = None
    words: list[str] = []
    is_json = False
    if keyword == "onbuild":
        if args and depth < _MAX_ONBUILD:
            sub = _node(args, escape, line, depth + 1)
    else:
        words, is_json = _arguments(keyword, args, escape)
    comments = () if depth else line.comments
    return Node(parts[0], tuple(flags), args, tuple(words), is_json, sub, (), text, line.first, line.last, comments)


def _arguments(keyword: str, args: str, escape: str) -> tuple[list[str], bool]:
    if keyword in _JSON_OR_LIST:
        array = _json_strings(args)
        return (array, True) if array is not None else (_BLANKS.split(args) if args else [], False)
    if keyword in _JSON_OR_TEXT:
        array = _json_strings(args)
        return (array, True) if array is not None else ([args] if args else [], False)
    if keyword in _LIST:
        return (_BLANKS.split(args) if args else []), False
    if keyword in _TEXT:
        return ([args] if args else []), False
    if keyword in _PAIRS:
        return _pairs(args, keyword.upper(), escape), False
    if keyword == "arg":
        return split_words(args, escape), False
    if keyword == "healthcheck":
        return _health(args)
    return [""], False


def _health(args: str) -> tuple[list[str], bool]:
    if not args:
        return [], False
    kind_end = next((i for i, char in enumerate(args) if char in SPACE), len(args))
    command = args[kind_end:].lstrip(SPACE)
    array = _json_strings(command)
    if array is not None:
        return [args[:kind_end], *array], True
    return [args[:kind_end], *([command] if command else [])], False


def _pairs(args: str, command: str, escape: str) -> list[str]:
    words = split_words(args, escape)
    if not words:
        return []
    if "=" not in words[0]:  # the old form: the name, a blank, and all the rest is the value
        parts = _BLANKS.split(args, maxsplit=1)
        if len(parts) < 2:
            raise DockerfileError(f"{command} must have two arguments")
        return [parts[0], parts[1], ""]
    out: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise DockerfileError(f"Syntax error - can't find = in {quote(word)}. Must be of the form: name=value")
        out += (name, value, "=")
    return out


def split_words(text: str, escape: str) -> list[str]:
    """Words of `text`, split at white space outside quotes; quotes and escapes stay in them."""
    words: list[str] = []
    word: list[str] = []
    blank_ok = False
    mark = ""
    position, end = 0, len(text)
    while position < end:
        char = text[position]
        if not mark and char in SPACE:
            if word or blank_ok:
                words.append("".join(word))
            word, blank_ok = [], False
        elif char == escape and mark != "'":
            if position + 1 < end:  # alone at the end it is nothing
                position += 1
                word.append(char + text[position])
        else:
            if mark and char == mark:
                mark = ""
            elif not mark and char in "'\"":
                mark, blank_ok = char, True
            word.append(char)
        position += 1
    if word or blank_ok:
        words.append("".join(word))
    return words


def _flags(text: str, escape: str) -> tuple[list[str], str]:
    """The `--flags` at the head of an instruction's arguments, unquoted, and what follows them."""
    flags: list[str] = []
    position, end = 0, len(text)
    while True:
        while position < end and text[position] in SPACE:
            position += 1
        if not text.startswith("--", position):
            return flags, text[position:]
        word, quoted, position = _flag(text, position, escape)
        if word == "--":
            return flags, text[position:]
        if word or quoted:
            flags.append(word)
        if position >= end:
            return flags, ""


def _flag(text: str, position: int, escape: str) -> tuple[str, bool, int]:
    word: list[str] = []
    quoted = False
    mark = ""
    end = len(text)
    while position < end:
        char = text[position]
        if not mark and char in SPACE:
            break
        if mark and char == mark:
            mark = ""
        elif not mark and char in "'\"":
            mark, quoted = char, True
        elif char == escape:
            if position + 1 < end:
                position += 1
                word.append(text[position])
        else:
            word.append(char)
        position += 1
    return "".join(word), quoted, position


def _json_strings(text: str) -> list[str] | None:
    """The strings of a JSON array; None if `text` is not valid JSON or no array."""
    text = text.lstrip(SPACE)
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text, parse_int=_nothing, parse_float=_nothing, parse_constant=_no_constant)
    except RecursionError:
        raise DockerfileError(_NOT_STRINGS) from None
    except ValueError:
        return None
    if not all(isinstance(item, str) for item in value):
        raise DockerfileError(_NOT_STRINGS)
    return [_whole(item) for item in value]


def _whole(text: str) -> str:
    """Half a surrogate pair (`"\\ud800"`) is no character."""
    return "".join("\ufffd" if 0xD800 <= ord(char) < 0xDC80 or 0xDD00 <= ord(char) <= 0xDFFF else char for char in text)


def _nothing(_text: str) -> None:
    return None


def _no_constant(text: str) -> None:
    raise ValueError(text)
