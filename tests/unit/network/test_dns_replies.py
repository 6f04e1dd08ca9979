"""What counts as the answer to a question that was forwarded."""

import struct

import pytest

from wherry.network.dns_message import QR, is_reply

ID = 0x1234
QUESTION = b"\x03www\x07example\x03com\x00\x00\x01\x00\x01"


def message(id_: int = ID, flags: int = QR, questions: int = 1, question: bytes = QUESTION) -> bytes:
    """A header and a question."""
    return struct.pack("!6H", id_, flags, questions, 1, 0, 0) + question


@pytest.mark.parametrize("tail", [b"", b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x0a\x00\x00\x01"])
def test_a_reply(tail: bytes) -> None:
    """The same id and question, in whatever case, with or without records."""
    assert is_reply(message() + tail, ID, QUESTION)
    assert is_reply(message(question=QUESTION.upper()) + tail, ID, QUESTION)


@pytest.mark.parametrize(
    "data",
    [
        message(id_=ID + 1),
        message(flags=0),
        message(questions=0),
        message(questions=2),
        message(question=QUESTION.replace(b"www", b"wwx")),
        message(question=b"\x04" + QUESTION[1:]),
        message(question=QUESTION[:-1] + b"\x02"),
        message()[:-1],
        message()[:11],
        b"",
    ],
)
def test_a_forgery_or_a_fragment(data: bytes) -> None:
    """One part that differs is enough."""
    assert not is_reply(data, ID, QUESTION)
