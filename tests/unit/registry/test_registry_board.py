"""What workers show one another survives whoever is killed, also in the middle of a writing."""

import os

from wherry.registry import board as boards
from wherry.registry.board import Board


def test_each_sees_the_others_and_what_it_was_before() -> None:
    """A successor begins with what its predecessor wrote last."""
    fd = boards.create(3)
    first, second, third = (Board(fd, number) for number in range(3))
    assert first.own() is None
    assert first.others() == []
    for count in range(5):
        first.write(b"%d" % count)
    second.write(b"10")
    assert third.others() == [b"4", b"10"]
    assert Board(fd, 0).own() == b"4"
    os.close(fd)


def test_a_writing_that_broke_off_leaves_the_last_one() -> None:
    """Killed between text and head, or in the text: what was whole before still counts, and the next is seen."""
    fd = boards.create(1)
    board = Board(fd, 0)
    for count in range(4):
        board.write(b"%d" % count)
        whole = os.pread(fd, 1 << 17, 0)
        for half in (0, 1 << 16):  # either half may be the one that was being written
            os.pwrite(fd, b"torn", half + 14)
            seen = Board(fd, 0).own()
            assert seen is None or int(seen) in (count, count - 1)
            os.pwrite(fd, whole, 0)
        assert Board(fd, 0).own() == b"%d" % count
    successor = Board(fd, 0)
    successor.write(b"99")
    assert Board(fd, 0).own() == b"99"
    os.close(fd)


def test_what_does_not_fit_is_left_out() -> None:
    """The last that fitted stays."""
    fd = boards.create(1)
    board = Board(fd, 0)
    board.write(b"1")
    board.write(b"x" * (1 << 17))
    assert board.own() == b"1"
    os.close(fd)
