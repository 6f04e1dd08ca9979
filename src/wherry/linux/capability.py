"""Capabilities: names and numbers (capabilities(7)), and which of them this host has to give."""

import os

from wherry.errors import KernelError

# in the order of their numbers
NAMES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
NUMBERS = {name: number for number, name in enumerate(NAMES)}


def mask(names: "frozenset[str] | tuple[str, ...] | list[str]") -> int:
    """The bit set of some names.

    Raises:
        KeyError: a name that is no capability.
    """
    bits = 0
    for name in names:
        bits |= 1 << NUMBERS[name]
    return bits


def names(bits: int) -> "frozenset[str]":
    """The names in a bit set; bits newer than this table are left out."""
    return frozenset(name for number, name in enumerate(NAMES) if bits >> number & 1)


def of_process(pid: "int | str" = "self", which: str = "CapBnd") -> int:
    """One set of a process: `CapInh`, `CapPrm`, `CapEff`, `CapBnd` or `CapAmb` of `/proc/<pid>/status`.

    Raises:
        KernelError: no such process, or no such line.
    """
    path = f"/proc/{pid}/status"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError("read process status", error.errno or 0, path) from None
    try:
        text = os.read(fd, 65536).decode("ascii", "replace")
    finally:
        os.close(fd)
    for line in text.splitlines():
        if line.startswith(which + ":"):
            return int(line.split(":")[1], 16)
    raise KernelError(f"no {which} in process status", 0, path)


def bounding_set() -> "frozenset[str]":
    """What this process can hand to a container: its bounding set, as far as it has it permitted."""
    return names(of_process("self", "CapBnd") & of_process("self", "CapPrm"))
