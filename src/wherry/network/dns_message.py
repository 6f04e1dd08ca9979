"""DNS messages as far as an embedded server needs them (RFC 1035, RFC 6891): read a query, write answers.

What comes from a container or from an upstream server is hostile: every length is checked, a question's name may not be
compressed (nothing stands before it that it could point to), and of an answer that is passed on nothing but its header
and question is looked at.
"""

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

A, PTR, AAAA, OPT = 1, 12, 28, 41
IN, ANY_CLASS = 1, 255

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)

QR, AA, TC, RD, RA = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
_OPCODE, _CD = 0x7800, 0x0010

MIN_UDP = 512
MAX_MESSAGE = 65535

_HEADER = struct.Struct("!6H")
_MAX_NAME = 255
_MAX_LABEL = 63


class Query:
    """One question, as a client asked it.

    Attributes:
        id, flags: of the header.
        name: the asked name in lower case, without the final dot; bytes that are no ASCII are kept as Latin-1.
        kind, klass: type and class of the question.
        question: the question section as it came, to be repeated.
        size: what the client can take by UDP.
        edns: it sent an OPT record, and wants one back.
    """

    __slots__ = ("edns", "flags", "id", "kind", "klass", "name", "question", "size")

    def __init__(
        self, id_: int, flags: int, name: str, kind: int, klass: int, question: bytes, size: int, edns: bool
    ) -> None:
        self.id = id_
        self.flags = flags
        self.name = name
        self.kind = kind
        self.klass = klass
        self.question = question
        self.size = size
        self.edns = edns


class BadMessage(ValueError):
    """A message that is no answerable query; `reply` is what to answer, empty for nothing at all."""

    def __init__(self, reply: bytes) -> None:
        super().__init__("not an answerable DNS message")
        self.reply = reply


def parse_query(data: bytes) -> Query:
    """Read a query.

    Raises:
        BadMessage: it is none, or one that nobody answers.
    """
    if len(data) < 12:
        raise BadMessage(b"")
    id_, flags, questions, answers, authorities, extra = _HEADER.unpack_from(data)
    if flags & QR:
        raise BadMessage(b"")  # an answer: answering that would make two servers talk for ever
    if flags & _OPCODE:
        raise BadMessage(_bare(id_, flags, NOTIMP))
    if questions != 1 or answers or authorities:
        raise BadMessage(_bare(id_, flags, FORMERR))
    try:
        name, end = _question_name(data)
        kind, klass = struct.unpack_from("!2H", data, end)
        size, edns = _edns(data, end + 4, extra)
    except (ValueError, struct.error, IndexError):
        raise BadMessage(_bare(id_, flags, FORMERR)) from None
    return Query(id_, flags, name, kind, klass, data[12 : end + 4], size, edns)


def _bare(id_: int, flags: int, code: int) -> bytes:
    return _HEADER.pack(id_, QR | RA | (flags & (_OPCODE | RD)) | code, 0, 0, 0, 0)


def _question_name(data: bytes) -> "tuple[str, int]":
    labels: list[bytes] = []
    position, total = 12, 0
    while True:
        length = data[position]
        position += 1
        if length == 0:
            return b".".join(labels).decode("latin-1").lower(), position
        total += length + 1
        if length > _MAX_LABEL or total >= _MAX_NAME or position + length > len(data):
            raise ValueError("name")
        labels.append(data[position : position + length])
        position += length


def _edns(data: bytes, position: int, records: int) -> "tuple[int, bool]":
    """The size in an OPT record, which stands at the root name; other additional records are not looked at."""
    if records and data[position] == 0:
        kind, size = struct.unpack_from("!2H", data, position + 1)
        if kind == OPT:
            return max(size, MIN_UDP), True
    return MIN_UDP, False


def answer(query: Query, records: "Sequence[tuple[int, int, bytes]]", *, code: int = NOERROR, limit: int = 0) -> bytes:
    """Write a response.

    Args:
        query: what was asked.
        records: type, time to live and data of each answer, all of the asked name.
        code: response code.
        limit: bytes that the client can take; with 0 as many as there are. What does not fit is left out, and the
            truncation flag says so.
    """
    flags = QR | RA | (query.flags & (RD | _CD)) | code
    tail = b"\0" + struct.pack("!2HIH", OPT, 1232, 0, 0) if query.edns else b""
    room = (limit or MAX_MESSAGE) - 12 - len(query.question) - len(tail)
    parts = []
    for kind, ttl, value in records:
        # the name by a pointer to the question's
        part = struct.pack("!3HIH", 0xC00C, kind, query.klass, ttl, len(value)) + value
        if len(part) > room:
            flags |= TC
            break
        room -= len(part)
        parts.append(part)
    head = _HEADER.pack(query.id, flags, 1, len(parts), 0, 1 if tail else 0)
    return b"".join((head, query.question, *parts, tail))


def encode_name(name: str) -> bytes:
    """Encode a domain name without compression.

    Raises:
        ValueError: a label is empty or too long, or the whole is.
    """
    out = bytearray()
    for label in name.rstrip(".").encode("latin-1").split(b"."):
        if not 0 < len(label) <= _MAX_LABEL:
            raise ValueError(f"not a domain name: {name!r}")
        out.append(len(label))
        out += label
    out.append(0)
    if len(out) > _MAX_NAME:
        raise ValueError(f"not a domain name: {name!r}")
    return bytes(out)


def is_reply(data: bytes, id_: int, question: bytes) -> bool:
    """Whether an upstream server's message answers this question under this id."""
    if len(data) < 12 + len(question):
        return False
    got, flags, questions = struct.unpack_from("!3H", data)
    return (
        got == id_ and bool(flags & QR) and questions == 1 and data[12 : 12 + len(question)].lower() == question.lower()
    )


def truncated(data: bytes, limit: int) -> bytes:
    """A foreign response made to fit: what is too long becomes the header and the question, and says so."""
    if len(data) <= limit:
        return data
    try:
        _, end = _question_name(data)
    except (ValueError, IndexError):
        end = 8
    id_, flags = struct.unpack_from("!2H", data)
    question = data[12 : end + 4]
    return _HEADER.pack(id_, flags | TC, 1 if question else 0, 0, 0, 0) + question


def with_id(data: bytes, id_: int) -> bytes:
    """The same message under another id."""
    return struct.pack("!H", id_) + data[2:]


def reverse_name(name: str) -> "bytes | None":
    """The packed address that a PTR question is about (RFC 1035 3.5, RFC 3596 2.5); None for any other name."""
    labels = name.split(".")
    if labels[-2:] == ["in-addr", "arpa"] and len(labels) == 6:
        try:
            numbers = [int(label) for label in labels[3::-1] if label.isascii() and label.isdigit() and len(label) < 4]
            return bytes(numbers) if len(numbers) == 4 else None
        except ValueError:
            return None
    if labels[-2:] == ["ip6", "arpa"] and len(labels) == 34:
        digits = "".join(labels[31::-1])
        try:
            return bytes.fromhex(digits) if len(digits) == 32 else None
        except ValueError:
            return None
    return None
