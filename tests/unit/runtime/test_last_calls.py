"""The calls that a filter lets pass once: their numbers, and which calls the instructions let pass."""

import os
import struct

import pytest

from wherry.linux import libseccomp
from wherry.runtime.last_calls import LastCalls

ALLOW, REFUSE = 0x7FFF0000, 0x00050001
CLONE_PARENT, NEW_USER, TIOCSCTTY, TIOCSTI, NPROC, CORE = 0x8000, 0x10000000, 0x540E, 0x5412, 6, 4
_PROGRAM = struct.pack("=HBBI", 0x06, 0, 0, REFUSE)


def _answer(program: bytes, number: int, *arguments: int) -> int:
    """What a filter says of a call (the classic BPF of these instructions: load, jump if equal, return)."""
    words = [argument & 0xFFFFFFFFFFFFFFFF for argument in (*arguments, *[0] * (6 - len(arguments)))]
    data = struct.pack("=iIQ6Q", number, 0, 0, *words)
    code = list(struct.iter_unpack("=HBBI", program))
    place, value = 0, 0
    while True:
        operation, yes, no, operand = code[place]
        if operation == 0x06:
            return int(operand)
        if operation == 0x20:
            value = struct.unpack_from("=I", data, operand)[0]
        else:
            assert operation == 0x15
            place += yes if value == operand else no
        place += 1


def _numbers() -> dict[str, int]:
    return {name: libseccomp.number(name) for name in ("clone", "setsid", "ioctl", "prlimit64", "read", "execve")}


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> int:
    """Make the token one that is known."""
    monkeypatch.setattr(os, "urandom", lambda size: bytes(range(0x81, 0x81 + size)))
    return int.from_bytes(bytes(range(0x81, 0x89)), "little")


def test_only_these_calls_with_the_token_pass(token: int) -> None:
    """Each with the token and the argument that makes it harmless; everything else is the profile's to judge."""
    program, of = LastCalls().passing(_PROGRAM), _numbers()
    passing = (
        (of["clone"], CLONE_PARENT, 0, 0, 0, 0, token),
        (of["setsid"], 0, 0, 0, 0, 0, token),
        (of["ioctl"], 0, TIOCSCTTY, 0, 0, 0, token),
        (of["prlimit64"], 0, NPROC, 0, 0, 0, token),
    )
    for call in passing:
        assert _answer(program, *call) == ALLOW, call
        for wrong in (0, token ^ 1, token ^ 1 << 40, token & 0xFFFFFFFF):
            assert _answer(program, *call[:-1], wrong) == REFUSE, (call, wrong)
    refused = (
        (of["clone"], CLONE_PARENT | NEW_USER, 0, 0, 0, 0, token),
        (of["clone"], 0, 0, 0, 0, 0, token),
        (of["ioctl"], 0, TIOCSTI, 0, 0, 0, token),
        (of["prlimit64"], 0, CORE, 0, 0, 0, token),
        (of["read"], 0, 0, 0, 0, 0, token),
        (of["execve"], 0, 0, 0, 0, 0, token),
    )
    for call in refused:
        assert _answer(program, *call) == REFUSE, call


def test_a_token_is_used_once() -> None:
    """Two execs have two."""
    assert LastCalls().passing(_PROGRAM) != LastCalls().passing(_PROGRAM)
