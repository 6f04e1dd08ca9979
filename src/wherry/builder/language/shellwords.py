"""Words as a POSIX shell reads them, as far as Dockerfiles know: quotes, escapes and `$name`, `${name…}`.

    ${a}  ${a:-w} ${a-w}  ${a:+w} ${a+w}  ${a:?w} ${a?w}  ${a#p} ${a##p}  ${a%p} ${a%%p}  ${a/p/w} ${a//p/w}

A word in `:-` and its like may hold expansions again. Whether a name was set is reported, for the lint rules. The work
is bounded: depth by `MAX_DEPTH`, the result by `MAX_TEXT`; a variable that doubles itself ends in an error.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from wherry.builder.language.shellpatterns import Pattern
from wherry.errors import InvalidArgument
from wherry.values.gotext import SPACE, quote

MAX_DEPTH = 100
"""Deepest nesting of `${a:-${b:-…}}`."""

MAX_TEXT = 4 << 20
"""Longest result of one expansion, in characters."""

_MAX_SHOWN = 1000  # characters of a word that a message repeats
_SPACES = frozenset(SPACE)
_SPECIAL = frozenset("@*#?-$!0")
_MISSING_BRACE = "syntax error: missing '}'"
_REPLACEMENT = "\ufffd"  # what BuildKit shows where the text ended


@dataclass(frozen=True, slots=True)
class Expansion:
    """What became of a word.

    Args:
        text: the word with quotes removed and variables replaced.
        words: the same, split at white space that was not quoted.
        matched: names that were set.
        unmatched: names that were asked for and not set.
    """

    text: str
    words: list[str]
    matched: frozenset[str]
    unmatched: frozenset[str]


@dataclass(frozen=True, slots=True)
class Lexer:
    """Reads words.

    Args:
        escape: the escape character, `\\` or a backtick.
        raw_quotes: keep the quotes in the result.
        raw_escapes: keep the escape characters too.
        skip_quotes: quotes are ordinary characters.
        keep_unset: leave `$name` as it is written when `name` is not set.
    """

    escape: str = "\\"
    raw_quotes: bool = False
    raw_escapes: bool = False
    skip_quotes: bool = False
    keep_unset: bool = False

    def expand(self, word: str, env: Mapping[str, str]) -> Expansion:
        """Replace variables of `env` in `word` and take quotes away.

        Raises:
            InvalidArgument: an open quote or brace, an operator that does not exist, a name that must be set and is
                not, a bad pattern; with BuildKit's words.
        """
        run = _Run(self, word, env)
        try:
            text, words = run.until("", raw_escapes=self.raw_escapes)
        except _BadWord as error:
            shown = word if len(word) <= _MAX_SHOWN else word[:_MAX_SHOWN] + "…"
            raise InvalidArgument(f"failed to process {quote(shown)}: {error}") from None
        return Expansion(text, words, frozenset(run.matched), frozenset(run.unmatched))

    def process_word(self, word: str, env: Mapping[str, str]) -> str:
        """`expand`, as one text."""
        return self.expand(word, env).text

    def process_words(self, word: str, env: Mapping[str, str]) -> list[str]:
        """`expand`, as separate words."""
        return self.expand(word, env).words


class _BadWord(Exception):
    pass


@dataclass(slots=True)
class _Words:
    """Splits what it is given at white space, unless it comes from quotes."""

    done: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)

    def plain(self, text: str) -> None:
        start = -1
        for position, char in enumerate(text):
            if char not in _SPACES:
                if start < 0:
                    start = position
            elif start >= 0:
                self.parts.append(text[start:position])
                start = -1
                self._end()
            else:
                self._end()
        if start >= 0:
            self.parts.append(text[start:])

    def quoted(self, text: str) -> None:
        if text:
            self.parts.append(text)

    def _end(self) -> None:
        if self.parts:
            self.done.append("".join(self.parts))
            self.parts.clear()

    def all(self) -> list[str]:
        self._end()
        return self.done


class _Run:
    """One walk over one word; `position` is the next character."""

    def __init__(self, lexer: Lexer, source: str, env: Mapping[str, str]) -> None:
        self.lexer = lexer
        self.source = source
        self.env = env
        self.position = 0
        self.depth = 0
        self.size = 0
        self.raw_escapes = lexer.raw_escapes
        self.matched: set[str] = set()
        self.unmatched: set[str] = set()
        self._stops = frozenset("$<" + lexer.escape + ("" if lexer.skip_quotes else "'\""))

    def peek(self) -> str:
        return self.source[self.position : self.position + 1]

    def next(self) -> str:
        char = self.source[self.position : self.position + 1]
        self.position += 1
        return char

    def at_end(self) -> bool:
        return self.position >= len(self.source)

    def _plain_run(self, stop: str) -> str:
        start, source, stops = self.position, self.source, self._stops
        end = start
        while end < len(source) and source[end] not in stops and source[end] != stop:
            end += 1
        self.position = end
        return source[start:end]

    def _grow(self, text: str) -> str:
        self.size += len(text)
        if self.size > MAX_TEXT:
            raise _BadWord(f"the expansion is longer than {MAX_TEXT} characters")
        return text

    def until(self, stop: str, *, raw_escapes: bool) -> tuple[str, list[str]]:
        """Read up to the character `stop`, which is eaten, or with "" up to the end of the source."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _BadWord(f"expansions are nested more than {MAX_DEPTH} deep")
        before, self.raw_escapes = self.raw_escapes, raw_escapes
        out: list[str] = []
        words = _Words()
        try:
            for text, is_plain in self._pieces(stop):
                out.append(self._grow(text))
                if is_plain:
                    words.plain(text)
                else:
                    words.quoted(text)
        finally:
            self.raw_escapes = before
            self.depth -= 1
        return "".join(out), words.all()

    def _pieces(self, stop: str) -> Iterator[tuple[str, bool]]:
        while not self.at_end():
            char = self.peek()
            if stop and char == stop:
                self.position += 1
                return
            if char not in self._stops:
                yield self._plain_run(stop), True
            elif char == "$":
                yield self._dollar(), True
            elif char == "<":
                yield self._heredoc_sign(), False
            elif char == "'" and not self.lexer.skip_quotes:
                yield self._single_quoted(), False
            elif char == '"' and not self.lexer.skip_quotes:
                yield self._double_quoted(), False
            else:
                self.position += 1
                if self.raw_escapes:
                    yield char, False
                escaped = self.next()
                if escaped:
                    yield escaped, False
        if stop:
            raise _BadWord(f"unexpected end of statement while looking for matching {stop}")

    def _single_quoted(self) -> str:
        start = self.position
        end = self.source.find("'", start + 1)
        if end < 0:
            self.position = len(self.source)
            raise _BadWord("unexpected end of statement while looking for matching single-quote")
        self.position = end + 1
        return self.source[start : end + 1] if self.lexer.raw_quotes else self.source[start + 1 : end]

    def _double_quoted(self) -> str:
        escape = self.lexer.escape
        out = [self.next()] if self.lexer.raw_quotes else []
        if not self.lexer.raw_quotes:
            self.position += 1
        while not self.at_end():
            char = self.peek()
            if char == '"':
                self.position += 1
                return "".join([*out, char] if self.lexer.raw_quotes else out)
            if char == "$":
                out.append(self._grow(self._dollar()))
                continue
            self.position += 1
            if char == escape:
                if self.raw_escapes:
                    out.append(char)
                following = self.peek()
                if not following:
                    continue
                if following in ('"', "$", escape):
                    char = self.next()
            out.append(char)
        raise _BadWord("unexpected end of statement while looking for matching double-quote")

    def _heredoc_sign(self) -> str:
        """`<<` with the blanks behind it is one piece: a quote may follow the blanks of `<< 'EOF'`."""
        start = self.position
        self.position += 1
        if self.peek() == "<":
            self.position += 1
            while self.peek() in ("\t", "\r", " ") and not self.at_end():
                self.position += 1
        return self.source[start : self.position]

    def _name(self) -> str:
        start, source = self.position, self.source
        first = self.peek()
        if first and first.isdecimal():
            while not self.at_end() and source[self.position].isdecimal():
                self.position += 1
        elif first in _SPECIAL:
            self.position += 1
        else:
            while not self.at_end():
                char = source[self.position]
                if not (char == "_" or char.isalpha() or char.isdecimal()):
                    break
                self.position += 1
        return source[start : self.position]

    def _get(self, name: str) -> str | None:
        value = self.env.get(name)
        (self.unmatched if value is None else self.matched).add(name)
        return value

    def _dollar(self) -> str:
        self.position += 1
        if self.peek() != "{":
            name = self._name()
            if not name:
                return "$"
            value = self._get(name)
            if value is None:
                return "$" + name if self.lexer.keep_unset else ""
            return value
        self.position += 1
        if self.at_end():
            raise _BadWord(_MISSING_BRACE)
        if self.peek() in "{}:":
            raise _BadWord("syntax error: bad substitution")
        name = self._name()
        operator = self.next()
        if operator == "}":
            value = self._get(name)
            if value is None:
                return "${" + name + "}" if self.lexer.keep_unset else ""
            return value
        if operator == "/":
            return self._replace(name)
        colon = operator == ":"
        if colon:
            operator = self.next()
        shown = (":" if colon else "") + (operator or _REPLACEMENT)
        if not colon and operator not in ("+", "-", "?", "#", "%"):
            raise _BadWord(f"unsupported modifier ({shown}) in substitution")
        is_pattern = operator in ("#", "%")
        if colon and is_pattern:
            raise _BadWord(f"unsupported modifier ({shown}) in substitution")
        word = self._word("}", _MISSING_BRACE, raw_escapes=is_pattern)
        return self._operate(name, shown, operator, word, null_is_unset=colon)

    def _word(self, stop: str, missing: str, *, raw_escapes: bool) -> str:
        try:
            return self.until(stop, raw_escapes=raw_escapes)[0]
        except _BadWord:
            if self.at_end() and self.depth <= MAX_DEPTH and self.size <= MAX_TEXT:
                raise _BadWord(missing) from None
            raise

    def _operate(self, name: str, shown: str, operator: str, word: str, *, null_is_unset: bool) -> str:
        value = self._get(name)
        if value is None and self.lexer.keep_unset:
            return "${" + name + shown + word + "}"
        absent = value is None or (null_is_unset and not value)
        if operator == "-":
            return word if absent or value is None else value
        if operator == "+":
            return "" if absent else word
        if operator == "?":
            if value is None:
                raise _BadWord(f"{name}: {word or 'is not allowed to be unset'}")
            if absent:
                raise _BadWord(f"{name}: {word or 'is not allowed to be empty'}")
            return value
        if operator in ("#", "%"):
            longest = word.startswith(operator)
            pattern = _pattern(word[1:] if longest else word)
            cut = pattern.prefix if operator == "#" else pattern.suffix
            try:
                return cut(value or "", longest=longest)
            except ValueError as error:
                raise _bad_pattern(word, error) from None
        raise _BadWord(f"unsupported modifier ({shown}) in substitution")

    def _replace(self, name: str) -> str:
        every = self.peek() == "/"
        if every:
            self.position += 1
        pattern = self._word("/", "syntax error: missing '/' in ${}", raw_escapes=True)
        replacement = self._word("}", _MISSING_BRACE, raw_escapes=True)
        value = self._get(name)
        if value is None and self.lexer.keep_unset:
            return "${" + name + "/" + pattern + "/" + replacement + "}"
        compiled = _pattern(pattern)
        # the size is known to be bounded only after the fact: count first what could come out
        if every and (len(value or "") + 1) * len(replacement) > 4 * MAX_TEXT:
            raise _BadWord(f"the expansion is longer than {MAX_TEXT} characters")
        try:
            return compiled.replace(value or "", replacement, every=every)
        except ValueError as error:
            raise _bad_pattern(pattern, error) from None


def _pattern(text: str) -> Pattern:
    try:
        return Pattern(text)
    except ValueError as error:
        raise _bad_pattern(text, error) from None


def _bad_pattern(text: str, error: ValueError) -> _BadWord:
    shown = text if len(text) <= 200 else text[:200] + "…"
    return _BadWord(f"invalid pattern ({shown}) in substitution: {error}")
