"""Shell words: quotes, escapes, every operator, what is reported and what is refused; hostile words end in time."""

import contextlib
import time

import pytest

from wherry.builder.language.shellwords import Lexer
from wherry.errors import InvalidArgument

ENV = {"A": "alpha", "E": "", "P": "/usr/local/lib/x.tar.gz", "S": "a  b", "N": "one\ntwo"}


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("hello", "hello"),
        ("he'll'o", "hello"),
        ("a\\tb", "atb"),
        ('"a\\tb"', "a\\tb"),
        ('"a\\"b\\$c\\\\"', 'a"b$c\\'),
        ("'$A'", "$A"),
        ("$A/${A}", "alpha/alpha"),
        ("$NO-$1x$$.$", "-x.$"),
        ("\\$A", "$A"),
        ("${A:-x}${NO:-x}${E:-x}${E-y}", "alphaxx"),
        ("${A:+x}${E:+y}${E+z}${NO+q}", "xz"),
        ("${NO:-${E:-${A}}}", "alpha"),
        ("${NO:-'a b'}", "a b"),
        ("${A?}${E?}", "alpha"),
        ("${P#*/}", "usr/local/lib/x.tar.gz"),
        ("${P##*/}", "x.tar.gz"),
        ("${P%.*}", "/usr/local/lib/x.tar"),
        ("${P%%.*}", "/usr/local/lib/x"),
        ("${P%/*}", "/usr/local/lib"),
        ("${P#nothing}", "/usr/local/lib/x.tar.gz"),
        ("${P/lib/LIB}", "/usr/local/LIB/x.tar.gz"),
        ("${P//l/L}", "/usr/LocaL/Lib/x.tar.gz"),
        ("${P/\\//-}", "-usr/local/lib/x.tar.gz"),
        ("${A/a*/x}", "x"),
        ("${A/?p/_}", "a_ha".replace("_ha", "_ha")),
        ("${A//*/x}", "x"),
        ("${A///-}", "-a-l-p-h-a-"),
        ("${N#*e}", "\ntwo"),
        ("${N##*o}", "ne\ntwo"),
        ("${A#\\*}", "alpha"),
    ],
)
def test_text(word: str, text: str) -> None:
    assert Lexer().process_word(word, ENV) == text


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("a b", ["a", "b"]),
        ("x$S", ["xa", "b"]),
        ('x"$S"', ["xa  b"]),
        ("a\\ b", ["a b"]),
        ("'' \"\"", []),
        ("1${NO:-2}3", ["123"]),
        ("<< 'E' x", ["<< E", "x"]),
    ],
)
def test_words(word: str, words: list[str]) -> None:
    assert Lexer().process_words(word, ENV) == words


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("'a", "unexpected end of statement while looking for matching single-quote"),
        ('"a', "unexpected end of statement while looking for matching double-quote"),
        ("${", "syntax error: missing '}'"),
        ("${A:-x", "syntax error: missing '}'"),
        ("${}", "syntax error: bad substitution"),
        ("${:x}", "syntax error: bad substitution"),
        ("${A.}", "unsupported modifier (.) in substitution"),
        ("${A:x}", "unsupported modifier (:x) in substitution"),
        ("${A:#x}", "unsupported modifier (:#) in substitution"),
        ("${NO?}", "NO: is not allowed to be unset"),
        ("${NO:?say $A}", "NO: say alpha"),
        ("${E:?}", "E: is not allowed to be empty"),
        ("${A/x}", "syntax error: missing '/' in ${}"),
        ("${A/x/y", "syntax error: missing '}'"),
        ("${A#\\x}", "invalid pattern (\\x) in substitution: invalid escape '\\x'"),
    ],
)
def test_refused(word: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Lexer().process_word(word, ENV)
    assert str(caught.value).endswith(": " + message)
    assert str(caught.value).startswith("failed to process ")


def test_what_was_asked_for_is_reported() -> None:
    got = Lexer().expand("$A ${B:-$C} '$D'", ENV)
    assert got.matched == {"A"}
    assert got.unmatched == {"B", "C"}


def test_unset_names_may_stay_as_they_are() -> None:
    lexer = Lexer(keep_unset=True, raw_quotes=True)
    assert lexer.process_word("$B ${B} ${B:-x} ${B/a/b} '$A' \"$A\"", ENV) == "$B ${B} ${B:-x} ${B/a/b} '$A' \"alpha\""


def test_a_backtick_escapes_where_the_file_says_so() -> None:
    assert Lexer("`").process_word("`$A\\", ENV) == "$A\\"


@pytest.mark.parametrize(
    ("word", "env"),
    [
        ("${a:-" * 20000 + "}" * 20000, {}),
        ("${x#" + "*a" * 2000 + "b}", {"x": "a" * 100_000}),
        ("${x%%" + "*a" * 2000 + "b}", {"x": "a" * 100_000}),
        ("${x/" + "*a" * 2000 + "b/y}", {"x": "a" * 100_000}),
        ("${x//a*b/y}", {"x": "a\n" * 50_000}),
        ("${x//a/" + "y" * 60_000 + "}", {"x": "a" * 100_000}),
        ("$x" * 30_000, {"x": "y" * 100_000}),
        ("${x#" + "?" * 4096 + "}", {"x": "a" * 100_000}),
    ],
)
def test_hostile_words_end_in_time(word: str, env: dict[str, str]) -> None:
    start = time.process_time()
    with contextlib.suppress(InvalidArgument):
        assert len(Lexer().process_word(word, env)) <= 4 << 20
    assert time.process_time() - start < 10
