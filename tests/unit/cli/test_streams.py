"""Taking streams apart, and the keys that detach."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.cli.failure import Failure
from wherry.cli.streams import Demux
from wherry.cli.terminal import DetachWatch, parse_detach_keys


def _frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


def _taken_apart(pieces: list[bytes]) -> tuple[bytes, bytes]:
    pipes = [os.pipe() for _ in range(2)]
    try:
        demux = Demux(pipes[0][1], pipes[1][1])
        for piece in pieces:
            demux.feed(piece)
        for _, end in pipes:
            os.write(end, b"!")
        found = [os.read(start, 1 << 20)[:-1] for start, _ in pipes]
    finally:
        for pair in pipes:
            for fd in pair:
                os.close(fd)
    return found[0], found[1]


@given(st.lists(st.tuples(st.sampled_from((1, 2)), st.binary(max_size=60)), max_size=30), st.integers(1, 40))
def test_frames_cut_anywhere(frames: list[tuple[int, bytes]], step: int) -> None:
    """However the stream is cut, each byte comes out where it belongs, in order."""
    stream = b"".join(_frame(number, data) for number, data in frames)
    pieces = [stream[at : at + step] for at in range(0, len(stream), step)]
    expected = tuple(b"".join(data for number, data in frames if number == wanted) for wanted in (1, 2))
    assert _taken_apart(pieces) == expected


def test_many_small_frames() -> None:
    """More frames than one system call takes are written all the same."""
    assert _taken_apart([_frame(1, b"x") * 3000 + _frame(2, b"y")]) == (b"x" * 3000, b"y")


def test_detach_keys() -> None:
    """Keys are letters with ctrl-, or single characters."""
    assert parse_detach_keys("ctrl-p,ctrl-q") == b"\x10\x11"
    assert parse_detach_keys("a,ctrl-[,ctrl-@") == b"a\x1b\x00"
    with pytest.raises(Failure, match="invalid detach keys"):
        parse_detach_keys("foo")


def test_detach_watch() -> None:
    """A beginning of the keys is held back until the next key decides."""
    watch = DetachWatch(b"\x10\x11")
    assert watch.feed(b"ab\x10") == (b"ab", False)
    assert watch.feed(b"c") == (b"\x10c", False)
    assert watch.feed(b"\x10\x10\x11rest") == (b"\x10", True)
    assert watch.feed(b"x") == (b"x", False)
