"""Standing in for a thread of a container in one system call: with its network namespace, its ids, its capabilities.

Only for a process that ends right afterwards: there is no way back.
"""

import os

from wherry.errors import KernelError
from wherry.linux import process as p
from wherry.linux.libc import libc
from wherry.linux.namespace import NAMESPACES, namespace_id, open_namespace, setns

_NETWORK, _USER = NAMESPACES["network"][0], NAMESPACES["user"][0]


class Caller:
    """What counts of a thread that is stopped in a system call. Everything is read before anything is taken over.

    Args:
        thread: its id, in this process's pid namespace. It may be gone: who stopped it knows, and must be asked after
            the last read.

    Raises:
        OSError (KernelError): it is gone, or this process may not look.
    """

    __slots__ = ("_credentials", "_memory", "_network", "_user", "process")

    def __init__(self, thread: int) -> None:
        self._memory = os.open(f"/proc/{thread}/mem", os.O_RDONLY | os.O_CLOEXEC)
        with open(f"/proc/{thread}/status", "rb") as file:
            self._credentials = _fields(file.read())
        self.process = int(self._credentials[b"Tgid"])
        self._network = open_namespace("network", thread)
        foreign = namespace_id("user", thread) != namespace_id("user")
        self._user = open_namespace("user", thread) if foreign else -1

    def read(self, address: int, size: int) -> bytes:
        """Read its memory. A page that another process provides (FUSE) makes this wait for that process.

        Raises:
            OSError: there is no such memory.
        """
        data = os.pread(self._memory, size, address)
        if len(data) < size:
            data += os.pread(self._memory, size - len(data), address + len(data))
        return data

    def become(self) -> None:
        """Take over its network namespace, user namespace, ids, groups and capabilities.

        Raises:
            KernelError: the kernel refuses one.
            KeyError, ValueError: this kernel writes /proc/<pid>/status in another way.
        """
        found = self._credentials
        uids, gids = _numbers(found[b"Uid"]), _numbers(found[b"Gid"])
        permitted, effective = int(found[b"CapPrm"], 16), int(found[b"CapEff"], 16)
        setns(self._network, _NETWORK)
        p.prctl(p.PR_SET_KEEPCAPS, 1, what="prctl PR_SET_KEEPCAPS")
        everything = p.capget()[1]
        try:
            os.setgroups(_numbers(found.get(b"Groups", b"")))
            os.setresgid(*gids[:3])
            os.setresuid(*uids[:3])
        except OSError as error:
            raise KernelError("become the caller's user", error.errno or 0) from None
        # what setuid took out of the effective set is needed once more
        p.capset(everything, everything, 0)
        libc.setfsgid(gids[3])
        libc.setfsuid(uids[3])
        if self._user >= 0:
            p.capset(everything, everything, 0)
            # ids are the host's, and stay; capabilities are all that there are in that namespace
            setns(self._user, _USER)
        p.capset(effective, permitted, 0)
        p.prctl(p.PR_SET_DUMPABLE, 0, what="prctl PR_SET_DUMPABLE")


def _fields(text: bytes) -> "dict[bytes, bytes]":
    pairs = (line.partition(b":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _numbers(text: bytes) -> "list[int]":
    return [int(word) for word in text.split()]
