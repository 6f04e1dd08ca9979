"""Detach keys."""

import pytest

from wherry.errors import InvalidArgument
from wherry.monitor.keys import DetachKeys, parse


def test_parse_names() -> None:
    """Docker's key names stand for their control codes, and an empty list for the default."""
    assert parse("") == b"\x10\x11"
    assert parse("ctrl-a,a") == b"\x01a"
    assert parse("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_,DEL") == bytes([0, 27, 28, 29, 30, 31, 127])
    assert parse("CTRL-P,x") == b"\x10x"


@pytest.mark.parametrize("text", ["ctrl-1", "ab", "ctrl-", "a,,b", "é"])
def test_parse_refuses(text: str) -> None:
    """What is no key is refused by name."""
    with pytest.raises(InvalidArgument, match="Unknown character"):
        parse(text)


def test_partial_match_is_passed_on() -> None:
    """What only began like the sequence reaches the process, in order, once it breaks."""
    keys = DetachKeys(b"\x10\x11")
    assert keys.feed(b"ab\x10") == (b"ab", False)
    assert keys.feed(b"x") == (b"\x10x", False)
    assert keys.feed(b"\x10") == (b"", False)
    assert keys.feed(b"\x10") == (b"\x10", False)
    assert keys.feed(b"\x11rest") == (b"", True)


def test_whole_match_in_one_piece() -> None:
    """A sequence within a piece ends it there."""
    assert DetachKeys(b"\x01a").feed(b"echo\x01aignored") == (b"echo", True)


def test_self_overlapping_sequence() -> None:
    """A sequence that overlaps itself is found after a false start."""
    keys = DetachKeys(b"aab")
    assert keys.feed(b"aa") == (b"", False)
    assert keys.feed(b"a") == (b"a", False)
    assert keys.feed(b"b") == (b"", True)
