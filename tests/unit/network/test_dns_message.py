"""DNS messages: what is read of hostile ones, and what is written."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.network.dns_message import (
    NOTIMP,
    A,
    BadMessage,
    answer,
    encode_name,
    is_reply,
    parse_query,
    reverse_name,
    truncated,
    with_id,
)
from wherry.network.dns_names import Asker, Member, Names, Network, pack

LABEL = st.text("abcdefghijklmnopqrstuvwxyzABC0123456789-_", min_size=1, max_size=63)
NAME = st.lists(LABEL, min_size=1, max_size=3).map(".".join)
HEAD = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"


def _query(name: str, kind: int = A, flags: int = 0x0100) -> bytes:
    return struct.pack("!6H", 7, flags, 1, 0, 0, 0) + encode_name(name) + struct.pack("!2H", kind, 1)


@given(st.binary(max_size=700) | st.binary(max_size=80).map(lambda tail: HEAD + tail))
def test_whatever_comes_is_a_query_or_refused(data: bytes) -> None:
    """Any bytes: a query whose answer repeats its question, or an error with an answer that is short and no query."""
    refusal: bytes | None = None
    try:
        query = parse_query(data)
    except BadMessage as bad:
        refusal = bad.reply
    if refusal is not None:
        assert len(refusal) in (0, 12)
        assert not refusal or refusal[2] & 0x80
        return
    reply = answer(query, [(A, 600, b"\1\2\3\4")])
    assert is_reply(reply, query.id, query.question)
    assert len(query.name) <= 255


@given(NAME, st.integers(0, 200), st.integers(512, 4096))
def test_an_answer_fits_or_says_that_it_does_not(name: str, count: int, limit: int) -> None:
    """Records are whole or left out, and the flag tells which."""
    query = parse_query(_query(name))
    assert query.name == name.lower()
    reply = answer(query, [(A, 600, bytes([10, 0, 0, n])) for n in range(count)], limit=limit)
    (flags, _, answers) = struct.unpack_from("!3H", reply, 2)
    assert len(reply) <= limit
    assert len(reply) == 12 + len(query.question) + 16 * answers
    assert bool(flags & 0x0200) == (answers < count)


@given(st.binary(min_size=12, max_size=600), st.integers(12, 100))
def test_a_foreign_response_is_made_to_fit(data: bytes, limit: int) -> None:
    """Whatever an upstream server sends: what is passed on is no longer than its question, and keeps its id."""
    short = truncated(data, limit)
    assert short[:2] == data[:2]
    assert short == data or (short[2] & 0x02 and len(short) <= len(data) + 12)
    assert with_id(data, 0x0102)[:2] == b"\1\2"


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("2.0.1.10.in-addr.arpa", "10.1.0.2"),
        ("0.0.0.0.in-addr.arpa", "0.0.0.0"),
        ("256.0.1.10.in-addr.arpa", None),
        ("1e1.0.1.10.in-addr.arpa", None),
        ("0.1.10.in-addr.arpa", None),
        ("x.2.0.1.10.in-addr.arpa", None),
        (".".join("2" + "0" * 29 + "df") + ".ip6.arpa", "fd00::2"),
        (".".join("2" + "0" * 28 + "df") + ".ip6.arpa", None),
        (".".join("2" + "g" * 29 + "df") + ".ip6.arpa", None),
        ("web", None),
        ("in-addr.arpa", None),
    ],
)
def test_reverse_names(name: str, address: str | None) -> None:
    """Only whole reverse names are addresses."""
    assert reverse_name(name) == (pack(address) if address else None)


@given(st.text(max_size=80))
def test_reverse_names_of_anything(name: str) -> None:
    """No text is an error."""
    for suffix in ("", ".in-addr.arpa", ".ip6.arpa"):
        found = reverse_name(name + suffix)
        assert found is None or len(found) in (4, 16)


def test_what_is_no_question_is_refused_as_it_deserves() -> None:
    """An answer gets nothing at all, or two servers would talk for ever; an update is not implemented."""
    with pytest.raises(BadMessage) as caught:
        parse_query(_query("web", flags=0x8180))
    assert caught.value.reply == b""
    with pytest.raises(BadMessage) as caught:
        parse_query(_query("web", flags=0x2800))
    assert caught.value.reply[3] & 0xF == NOTIMP
    for name in ("", "..", "a" * 64, "a." * 130):
        if name:
            with pytest.raises(ValueError, match="not a domain name"):
                encode_name(name if name != ".." else "a..b")


def test_members_come_and_go() -> None:
    """A name with several members loses one; an address that moved keeps its new owner; nothing stays behind."""
    names = Names()
    network = names.networks["n"] = Network("Net")
    asker = Asker(["gone", "n"], {}, [])
    network.put("a", Member(["web", "x"], ["10.0.0.2"]))
    network.put("b", Member(["web"], ["10.0.0.3", "fd00::3"]))
    found = names.lookup(asker, "web", A)
    assert found is not None
    assert sorted(found) == [pack("10.0.0.2"), pack("10.0.0.3")]
    network.put("a", Member(["y"], ["10.0.0.3"]))
    network.drop("b")
    assert names.lookup(asker, "web", A) is None
    assert names.lookup(asker, "x.net", A) is None
    assert names.lookup(asker, "y.net", A) == [pack("10.0.0.3")]
    assert names.reverse(asker, "3.0.0.10.in-addr.arpa") == "y.net"
    network.drop("a")
    network.drop("a")
    assert not network.members
    assert names.reverse(asker, "3.0.0.10.in-addr.arpa") is None
