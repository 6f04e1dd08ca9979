"""Seccomp profiles: what is chosen, what is refused, and what the program then answers."""

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from wherry.errors import InvalidSpec, NotSupported
from wherry.linux import libseccomp
from wherry.oci.isolation import DEFAULT_CAPABILITIES
from wherry.oci.seccomp_profile import default_profile
from wherry.runtime.seccomp import cached_program, compile_profile, resolve
from wherry.runtime.socketcall import asking, is_32_bit

X86_64, I386 = 0xC000003E, 0x40000003
ALLOW, KILL, USER_NOTIF = 0x7FFF0000, 0x00000000, 0x7FC00000
EPERM, ENOSYS = 0x00050001, 0x00050026
DEFAULT = frozenset(DEFAULT_CAPABILITIES)

pytestmark = pytest.mark.skipif(libseccomp.native() != X86_64, reason="the numbers of this test are those of x86_64")


def answer(program: bytes, number: int, *arguments: int, audit: int = X86_64) -> int:
    """Execute a classic BPF program on one system call, as the kernel does."""
    data = struct.pack("=IIQ6Q", number, audit, 0, *(list(arguments) + [0] * 6)[:6])
    accumulator = at = 0
    while True:
        code, when_true, when_false, k = struct.unpack_from("=HBBI", program, at * 8)
        at += 1
        if code == 0x20:
            accumulator = struct.unpack_from("=I", data, k)[0]
        elif code == 0x05:
            at += k
        elif code == 0x54:
            accumulator &= k
        elif code in (0x15, 0x25, 0x35):
            fits = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k}[code]
            at += when_true if fits else when_false
        else:
            assert code == 0x06, hex(code)
            return int(k)


@pytest.fixture(scope="module")
def program() -> bytes:
    return compile_profile(default_profile(), capabilities=DEFAULT, kernel="6.1.0")


@pytest.fixture(scope="module")
def admin_program() -> bytes:
    return compile_profile(default_profile(), capabilities=DEFAULT | {"CAP_SYS_ADMIN"}, kernel="6.1.0")


@pytest.mark.parametrize("family", range(47))
@pytest.mark.parametrize("high", [0, 1 << 32, 0xFFFFFFFF << 32])
def test_sockets_of_every_family_but_two(program: bytes, family: int, high: int) -> None:
    """AF_ALG and AF_VSOCK are refused, whatever the upper half of the register holds, in 64 and in 32 bits."""
    expected = EPERM if family in (38, 40) else ALLOW
    assert answer(program, 41, high | family, 1, 0) == expected
    assert answer(program, 359, family, 1, 0, audit=I386) == expected
    assert answer(program, 0x40000000 | 41, high | family, 1, 0) == expected


def test_a_32_bit_socketcall_makes_no_sockets(program: bytes) -> None:
    """Its arguments cannot be seen; all that works on a socket that is there is allowed."""
    assert answer(program, 102, 1, audit=I386) == EPERM
    assert answer(program, 102, 2, audit=I386) == ALLOW


@pytest.mark.parametrize("high", [0, 1 << 32, 0xFFFFFFFF << 32])
def test_a_filter_that_asks_about_socketcall(program: bytes, high: int) -> None:
    """It asks about SYS_SOCKET of 32-bit x86, and answers all else as without."""
    asks = asking(program)
    assert answer(asks, 102, high | 1, audit=I386) == USER_NOTIF
    for audit in (X86_64, I386, 0xC00000B7):
        for number in (*range(500), 0x40000000 | 41, 0x40000000 | 102):
            for first in (0, 1, 2, 38, 40):
                if (audit, number, first) != (I386, 102, 1):
                    expected = answer(program, number, high | first, audit=audit)
                    assert answer(asks, number, high | first, audit=audit) == expected, (audit, number, first)


def test_which_programs_are_32_bit(tmp_path: Path) -> None:
    """By the head of the file, or of the interpreter; nothing that is not a regular file is opened."""

    def elf(name: str, kind: int, machine: int) -> str:
        (tmp_path / name).write_bytes(b"\x7fELF" + bytes([kind, 1, 1]) + bytes(11) + machine.to_bytes(2, "little"))
        return str(tmp_path / name)

    programs = {"i386": elf("i386", 1, 3), "amd64": elf("amd64", 2, 62), "x32": elf("x32", 1, 62), "short": "/dev/null"}
    for name in list(programs):
        (tmp_path / f"{name}.sh").write_text(f"#! {programs[name]} -e\ntrue\n")
        programs[f"{name}.sh"] = str(tmp_path / f"{name}.sh")
    (tmp_path / "twice").write_text(f"#!{programs['i386.sh']}\n")
    (tmp_path / "nul").write_bytes(b"#!/a\0b\n")
    os.mkfifo(tmp_path / "fifo")
    programs |= {name: str(tmp_path / name) for name in ("twice", "nul", "fifo", "absent")}
    assert {name for name, path in programs.items() if is_32_bit(path)} == {"i386", "i386.sh"}


@pytest.mark.parametrize(
    ("number", "name"),
    [(250, "keyctl"), (425, "io_uring_setup"), (323, "userfaultfd"), (321, "bpf"), (165, "mount"), (246, "kexec_load")],
)
def test_calls_that_are_refused(program: bytes, number: int, name: str) -> None:
    """EPERM, as Docker's profile answers."""
    assert answer(program, number) == EPERM, name


@pytest.mark.parametrize("flag", [0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000])
def test_clone_makes_no_namespaces(program: bytes, admin_program: bytes, flag: int) -> None:
    """Each flag alone is refused without CAP_SYS_ADMIN."""
    assert answer(program, 56, flag | 17) == EPERM
    assert answer(program, 56, 17) == ALLOW
    assert answer(admin_program, 56, flag | 17) == ALLOW


def test_clone3_does_not_exist_without_the_capability(program: bytes, admin_program: bytes) -> None:
    """So that libc falls back to clone, whose flags can be seen."""
    assert answer(program, 435) == ENOSYS
    assert answer(admin_program, 435) == ALLOW


@pytest.mark.parametrize("audit", [X86_64, I386])
def test_calls_newer_than_the_profile_do_not_exist(program: bytes, audit: int) -> None:
    """ENOSYS, so that programs fall back; those the profile names are allowed even where libseccomp is older."""
    for number in (467, 470, 500, 9999):
        assert answer(program, number, audit=audit) == ENOSYS
    for number in (451, 452, 453, 463, 466):
        assert answer(program, number, audit=audit) == ALLOW


def test_mounts_may_be_listed_by_an_administrator_only(program: bytes, admin_program: bytes) -> None:
    """statmount is newer than libseccomp may know: not there, or allowed."""
    assert answer(program, 457) == ENOSYS
    assert answer(admin_program, 457) == ALLOW


@pytest.mark.parametrize(
    ("persona", "expected"),
    [(0, ALLOW), (8, ALLOW), (0x20000, ALLOW), (0xFFFFFFFF, ALLOW), (0x40000, EPERM), (4, EPERM)],
)
def test_personalities(program: bytes, persona: int, expected: int) -> None:
    """Address randomisation cannot be switched off."""
    assert answer(program, 135, persona) == expected


def test_a_capability_opens_its_calls() -> None:
    """ptrace is the kernel's to check since 4.8; CAP_SYSLOG gives syslog; no capability gives keyctl."""

    def allowed(capabilities: set[str], kernel: str = "6.1.0") -> set[str]:
        found = resolve(default_profile(), capabilities=frozenset(capabilities), machine="x86_64", kernel=kernel)
        return {rule.name for rule in found.rules if rule.action == ALLOW}

    assert "ptrace" in allowed(set())
    assert "ptrace" not in allowed(set(), "4.7.9")
    assert "ptrace" in allowed({"CAP_SYS_PTRACE"}, "4.7.9")
    assert "syslog" in allowed({"CAP_SYSLOG"}) - allowed(set())
    assert "keyctl" not in allowed(set(libseccomp.LIBRARY)) | allowed({"CAP_SYS_ADMIN"})
    assert 350 <= len(allowed(set(DEFAULT_CAPABILITIES))) <= 380


def test_every_name_of_ours_is_a_system_call() -> None:
    """A misspelt name would be ignored, and the call refused."""
    from wherry.runtime.seccomp_stub import NEWER

    unknown = {
        name
        for item in default_profile()["syscalls"]
        for name in item["names"]
        if libseccomp.number(name) == libseccomp.UNKNOWN and name not in NEWER
    }
    # what only the newest libseccomp, or another architecture, knows
    assert unknown <= {"uretprobe", "riscv_hwprobe", "memfd_secret"}


def test_two_comparisons_of_one_argument_are_alternatives() -> None:
    """As every runtime has it; of different arguments both must fit."""

    def profile(*args: dict[str, Any]) -> dict[str, Any]:
        return {
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_ALLOW", "args": list(args)}],
        }

    one, two = {"index": 1, "value": 9, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 15, "op": "SCMP_CMP_EQ"}
    either = compile_profile(profile(one, two))
    assert [answer(either, 62, 1, n) for n in (9, 15, 10)] == [ALLOW, ALLOW, EPERM]
    both = compile_profile(profile(one, {"index": 0, "value": 1, "op": "SCMP_CMP_GT"}))
    assert [answer(both, 62, pid, 9) for pid in (1, 2)] == [EPERM, ALLOW]


def test_an_allow_all_profile_keeps_newer_calls() -> None:
    """Nothing is made ENOSYS where the default is to allow; what is named gets its error number."""
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"name": "keyctl", "action": "SCMP_ACT_ERRNO", "errnoRet": 95}],
    }
    program = compile_profile(profile)
    assert answer(program, 9999) == ALLOW
    assert answer(program, 250) == 0x00050000 | 95


def test_another_architecture_is_killed_where_it_is_not_named() -> None:
    """A 64-bit filter does not let 32-bit calls around itself."""
    program = compile_profile({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"]})
    assert answer(program, 20, audit=I386) == KILL


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"defaultAction": "SCMP_ACT_FOO"}, "unknown action"),
        ({"defaultAction": None}, "unknown action"),
        ({"defaultErrnoRet": 5000}, "no error number"),
        ({"syscalls": {}}, "must be a list"),
        ({"syscalls": [5]}, "must be an object"),
        ({"syscalls": [{"names": ["a"], "name": "b", "action": "SCMP_ACT_ALLOW"}]}, "either 'name' or 'names'"),
        ({"syscalls": [{"names": [5], "action": "SCMP_ACT_ALLOW"}]}, "list of strings"),
        (
            {
                "syscalls": [
                    {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "op": "SCMP_CMP_EQ"}]}
                ]
            },
            "six",
        ),
        (
            {"syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "op": "EQ"}]}]},
            "comparison",
        ),
        (
            {"syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "x"}}]},
            "kernel version",
        ),
        ({"architectures": ["SCMP_ARCH_X86"], "archMap": [{}]}, "either 'architectures' or 'archMap'"),
        ({"architectures": ["X86"]}, "unknown architecture"),
    ],
)
def test_malformed_profiles(change: dict[str, Any], words: str) -> None:
    """Each is refused with the member named; none is read as less than it says."""
    with pytest.raises(InvalidSpec, match=words):
        compile_profile({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [], **change})


@pytest.mark.parametrize(
    "profile",
    [
        {"defaultAction": "SCMP_ACT_NOTIFY"},
        {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"},
        {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_VAX"]},
    ],
)
def test_what_is_not_supported_is_said(profile: dict[str, Any]) -> None:
    """A notification without a listener would hang the container."""
    with pytest.raises(NotSupported, match="seccomp"):
        compile_profile(profile)


def test_a_missing_library_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It never means no filter."""
    monkeypatch.setattr(libseccomp, "_loaded", None)
    monkeypatch.setattr(libseccomp, "LIBRARY", "libnothing.so.99")
    with pytest.raises(NotSupported, match="libnothing"):
        compile_profile(default_profile())


def test_the_cache_is_private_and_keyed_by_all_that_matters(tmp_path: Path) -> None:
    """Capabilities and profile make different files; a torn file is compiled again."""
    cache = str(tmp_path / "seccomp")
    first = cached_program(None, DEFAULT, cache)
    assert cached_program(None, DEFAULT, cache) == first
    (file,) = Path(cache).iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    cached_program(None, DEFAULT | {"CAP_SYS_ADMIN"}, cache)
    cached_program({"defaultAction": "SCMP_ACT_ALLOW"}, DEFAULT, cache)
    assert len(list(Path(cache).iterdir())) == 3
    file.write_bytes(file.read_bytes()[:-8])
    assert cached_program(None, DEFAULT, cache) == first


def test_the_profile_is_json_that_can_be_given_back() -> None:
    """`--security-opt seccomp=FILE` of our own profile is our own profile."""
    again = json.loads(json.dumps(default_profile()))
    assert compile_profile(again, capabilities=DEFAULT) == compile_profile(default_profile(), capabilities=DEFAULT)
