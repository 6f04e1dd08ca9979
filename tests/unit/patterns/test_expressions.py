"""Regular expressions of callers: RE2's syntax, its answers, and linear time."""

import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wherry.errors import InvalidArgument
from wherry.patterns.expressions import Expression, search

_ATOMS = st.sampled_from(
    [
        *("a", "b", "_", ".", r"\.", "[ab]", "[^a]", "[a-c-]", r"\d", r"\W", "^", "$", r"\b", r"\B", "é", " "),
        *(r"[\w.]", r"\x41", "-", "/", r"[\n]", "(?i:B)", "[^-a]", r"\/"),
    ]
)
EXPRESSION = st.recursive(
    _ATOMS,
    lambda inner: (
        st.tuples(inner, inner).map("".join)
        | st.tuples(inner, inner).map("|".join)
        | inner.map("({})".format)
        | st.tuples(inner.map("(?:{})".format), st.sampled_from(["*", "+", "?", "{2}", "{1,}", "{0,2}", "*?"])).map(
            "".join
        )
    ),
    max_leaves=8,
)


@given(EXPRESSION, st.text("abB_.é -/A\n1", max_size=8))
@settings(max_examples=600, deadline=None)
@example("^$", "")
@example("(a|)", "")
@example(r"\b", "a")
@example("(?:^a|b$)", "xb")
@example("a{0,2}b", "aaab")
def test_a_search_finds_what_python_finds(pattern: str, text: str) -> None:
    if not text and r"\B" in pattern:
        return  # Python finds no place that is no boundary in an empty text
    # Python's `$` stands before a last newline too, Go's does not
    theirs = re.compile(pattern.replace("$", r"\Z"), re.ASCII)
    assert Expression(pattern).search(text) == (theirs.search(text) is not None)


@pytest.mark.parametrize(
    ("pattern", "fits", "others"),
    [
        ("^/?web$", ["web", "/web"], ["web1"]),
        ("web", ["a-web-1", "web"], ["wb"]),
        ("^web", ["web-1"], ["a-web"]),
        ("[[:digit:]]+$", ["a1"], ["a"]),
        ("(?P<n>a)(?<m>b)", ["ab"], ["a"]),
        (r"\Qa.b\E+", ["a.bb"], ["axb"]),
        ("a{,2}", ["a{,2}"], ["aa"]),
        ("(?s).", ["\n"], [""]),
        ("(?m)^b$", ["a\nb\nc"], ["ab"]),
        ("(?i)WEB[x-z]", ["webY"], ["webw"]),
        (r"\x{1F600}", ["\U0001f600"], ["x"]),
        ("[^[:^alpha:]]", ["a"], ["1"]),
    ],
)
def test_what_they_mean(pattern: str, fits: list[str], others: list[str]) -> None:
    expression = Expression(pattern)
    assert all(map(expression.search, fits)) and not any(map(expression.search, others))


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("*a", "missing argument to repetition operator: `*`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("(a", "missing closing ): `(a`"),
        ("a)", "unexpected ): `a)`"),
        ("[a", "missing closing ]: `[a`"),
        ("a\\", "trailing backslash at end of expression: ``"),
        (r"\1", r"invalid escape sequence: `\1`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("[b-a]", "invalid character class range: `b-a`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?<", "invalid or unsupported Perl syntax: `(?<`"),
        ("(?P<a", "invalid named capture: `(?P<a`"),
        ("(((a{900}){900}){900})", "expression too large"),
        ("(" * 5000, "expression nests too deeply"),
    ],
)
def test_what_is_none(pattern: str, why: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        Expression(pattern)
    assert str(error.value).startswith(f"error parsing regexp: {why}")
    assert not search(pattern, "a")


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+$", "^(a|a)*$", "(a*)*b", "(.*a){25}b", "(a|aa)+$", "((a?){30}){10}b", "x" * 1900 + ".", "(?:){1000}.b"],
)
def test_hostile_expressions_end_in_time(pattern: str) -> None:
    start = time.process_time()
    assert not search(pattern, "a" * 3000 + "!")
    assert time.process_time() - start < 5


@given(st.text("()[]{}|*+?^$\\.-:<>P=!aQE01,x", max_size=24))
@settings(max_examples=500)
def test_any_text_is_one_or_is_refused(text: str) -> None:
    search(text, "ab")
