"""Names match as Go's path.Match does, in bounded time."""

import pytest

from wherry.errors import InvalidArgument
from wherry.patterns import globs


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("", "", True),
        ("", "a", False),
        ("abc", "abc", True),
        ("*", "abc", True),
        ("*", "", True),
        ("**", "abc", True),
        ("*c", "abc", True),
        ("a*", "a", True),
        ("a*", "ab/c", False),
        ("a*/b", "abc/b", True),
        ("a*/b", "a/c/b", False),
        ("*/*", "a/b", True),
        ("*/*", "a/b/c", False),
        ("a*b*c*d*e*/f", "axbxcxdxe/f", True),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/f", True),
        ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", False),
        ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("a*b?c*x", "abxbbxdbxebxczzy", False),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("ab[c]", "abc", True),
        ("ab[b-d]", "abc", True),
        ("ab[e-g]", "abc", False),
        ("ab[^c]", "abc", False),
        ("ab[^e-g]", "abc", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "ab", False),
        ("[\\]a]", "]", True),
        ("[a\\-c]", "-", True),
        ("[x\\-]", "z", False),
    ],
)
def test_match(pattern: str, name: str, fits: bool) -> None:
    """Each kind of place takes what it should."""
    assert globs.component(pattern)(name) is fits


@pytest.mark.parametrize("pattern", ["[", "[a", "[]a]", "[-]", "[x-]", "[-x]", "[^", "a[", "a\\", "[a-b-c]"])
def test_bad(pattern: str) -> None:
    """A pattern that Go refuses is refused."""
    with pytest.raises(InvalidArgument, match="syntax error in pattern"):
        globs.component(pattern)


def test_hostile() -> None:
    """Many stars cost no more than length times length."""
    assert not globs.component("*a" * 500 + "b")("a" * 1000)
