"""Our default system-call profile, installed in a real process."""

import ctypes
import errno
import json
import mmap
import os
import struct
from collections.abc import Callable
from typing import Any

import pytest

from wherry.errors import InvalidSpec
from wherry.linux import capability
from wherry.linux.seccomp import PreparedFilter, install_asking_filter, prepare_filter
from wherry.oci.isolation import DEFAULT_CAPABILITIES
from wherry.oci.seccomp_profile import default_profile
from wherry.runtime.seccomp import compile_profile
from wherry.runtime.socketcall import asking

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="calls by the numbers of x86_64"),
]

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

# push rbx; mov eax, edi; mov ebx, esi; mov ecx, edx; xor edx, edx; int 0x80; pop rbx; ret
INT80 = bytes.fromhex("5389f889f389d131d2cd805bc3")


def call(number: int, *arguments: int) -> str:
    """Make a 64-bit system call; `ok` or the error's name."""
    if libc.syscall(ctypes.c_long(number), *[ctypes.c_ulong(a) for a in arguments]) >= 0:
        return "ok"
    return errno.errorcode[ctypes.get_errno()]


def call32(number: int, *arguments: int) -> str:
    """Make a 32-bit system call from this 64-bit process."""
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(INT80)
    enter = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_uint] * 3)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    result = int(enter(number, *[*arguments, 0, 0][:2]))
    return "ok" if result >= 0 else errno.errorcode[-result]


def confined(prepared: PreparedFilter, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run `work` in a child under the filter."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            prepared.install()
            os.write(writer, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        text = file.read()
    assert os.waitpid(pid, 0)[1] == 0
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.fixture(scope="module")
def prepared() -> PreparedFilter:
    return prepare_filter(compile_profile(default_profile(), capabilities=frozenset(DEFAULT_CAPABILITIES)))


def test_crypto_and_hypervisor_sockets_are_refused(prepared: PreparedFilter) -> None:
    """CVE-2026-31431: AF_ALG by every door, also 32-bit ones and with a high bit that the kernel ignores."""

    def work() -> dict[str, Any]:
        return {
            "alg": call(41, 38, 5, 0),
            "alg high": call(41, 1 << 32 | 38, 5, 0),
            "vsock": call(41, 40, 1, 0),
            "alg 32": call32(359, 38, 5),
            "socketcall": call32(102, 1, 0),
            "unix": call(41, 1, 1, 0),
            "inet": call(41, 2, 1, 0),
            "netlink": call(41, 16, 3, 0),
        }

    found = confined(prepared, work)
    assert {name for name, answer in found.items() if answer == "EPERM"} == {
        "alg",
        "alg high",
        "vsock",
        "alg 32",
        "socketcall",
    }
    assert found["unix"] == found["inet"] == found["netlink"] == "ok"


def test_namespaces_and_reach_into_the_kernel_are_refused(prepared: PreparedFilter) -> None:
    """As root with every capability: the filter alone says no."""

    def work() -> dict[str, Any]:
        return {
            "unshare": call(272, 0x20000),
            "clone": call(56, 0x10000000 | 17, 0),
            "clone3": call(435, 0, 0),
            "keyctl": call(250, 0, -4 & 0xFFFFFFFF),
            "bpf": call(321, 0, 0, 0),
            "mount": call(165, 0, 0, 0, 0, 0),
            "init_module": call(175, 0, 0, 0),
            "io_uring": call(425, 1, 0),
            "userfaultfd": call(323, 0),
            "personality": call(135, 0x40000),
            "setns": call(308, 0, 0),
            "keyctl 32": call32(288, 0, 0),
            "clone3 32": call32(435, 0, 0),
        }

    found = confined(prepared, work)
    assert found.pop("clone3") == found.pop("clone3 32") == "ENOSYS"
    assert set(found.values()) == {"EPERM"}, found


def test_newer_calls_do_not_exist(prepared: PreparedFilter) -> None:
    """ENOSYS for what the profile has not heard of; what it has is handed to the kernel."""

    def work() -> dict[str, Any]:
        return {"999": call(999), "32": call32(999), "fchmodat2": call(452, 1 << 20, 0, 0, 0)}

    found = confined(prepared, work)
    assert found.pop("fchmodat2") != "EPERM"
    assert set(found.values()) == {"ENOSYS"}


def test_an_ordinary_program_runs(prepared: PreparedFilter) -> None:
    """Threads, processes, files, sockets, randomness: all that a program needs."""

    def work() -> dict[str, Any]:
        import socket
        import threading

        done: list[int] = []
        thread = threading.Thread(target=lambda: done.append(1))
        thread.start()
        thread.join()
        left, right = socket.socketpair()
        left.sendall(os.urandom(4))
        pid = os.fork()
        if pid == 0:
            os._exit(3)
        return {"thread": done, "read": len(right.recv(9)), "child": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}

    assert confined(prepared, work) == {"thread": [1], "read": 4, "child": 3}


def test_a_second_listener_is_not_to_be_had() -> None:
    """The kernel gives a process one filter that asks: where there is one already, the caller hears that."""
    program = asking(compile_profile(default_profile(), capabilities=frozenset(DEFAULT_CAPABILITIES)))

    def work() -> dict[str, Any]:
        first = install_asking_filter(program)
        found = {"first": first is not None, "second": install_asking_filter(program)}
        assert first is not None
        os.close(first)
        # nobody answers any more
        return {**found, "socketcall": call32(102, 1, 0), "alg 32": call32(359, 38, 5)}

    nothing_refused = prepare_filter(struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000))
    found = confined(nothing_refused, work)
    assert found == {"first": True, "second": None, "socketcall": "ENOSYS", "alg 32": "EPERM"}


@pytest.mark.parametrize("program", [b"", b"1234567", b"\0" * 8 * 4097])
def test_what_is_no_program_is_refused(program: bytes) -> None:
    """Before the kernel sees it."""
    with pytest.raises(InvalidSpec, match="not a system-call filter"):
        prepare_filter(program)


def test_the_host_gives_what_it_has() -> None:
    """The bounding set by name, and back to bits."""
    found = capability.bounding_set()
    assert capability.mask(found) == capability.of_process("self", "CapBnd") & capability.of_process("self", "CapPrm")
    assert "CAP_CHOWN" in found
