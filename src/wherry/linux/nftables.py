"""The nftables language through libnftables.so.1 by ctypes (libnftables(3), nft(8)). For wherryd only.

Everything in one `run` is one transaction: all of it takes effect, or nothing.
"""

import ctypes
import errno
import os
import subprocess
import sys
import threading

from wherry.errors import KernelError, NotSupported
from wherry.linux.netlink import News, attributes

_LIBRARY = "libnftables.so.1"
_NETLINK_NETFILTER, _NFNLGRP_NFTABLES = 12, 7
_NEWGEN, _GEN_PROC_PID, _GEN_PROC_NAME = 10 << 8 | 15, 2, 3
_OWN_NAME = f"wherry-{os.urandom(4).hex()}".encode()  # at most 15 bytes (TASK_COMM_LEN)
_GENERIC_HEADER = 4


class RulesetWatch(News):
    """Becomes readable when anybody changes a ruleset of the namespace in which it was opened.

    Raises:
        KernelError: the kernel gives no such news.
    """

    def __init__(self) -> None:
        super().__init__(_NETLINK_NETFILTER, 1 << (_NFNLGRP_NFTABLES - 1), "the nftables ruleset")

    def drain(self) -> bool:
        """Take all news; says whether somebody else than this process may have changed something."""
        news = self.read()
        return news is None or any(kind == _NEWGEN and not _is_ours(body) for kind, body in news)


_named = threading.local()


def name_thread() -> None:
    """Give the calling thread the name (comm) by which `RulesetWatch` knows this process's changes.

    The kernel reports the pid of whoever changed a ruleset as the host sees it: in a PID namespace of our own that pid
    says nothing. The main thread keeps the program's name.
    """
    if getattr(_named, "done", False) or threading.get_native_id() == os.getpid():
        return
    with open("/proc/thread-self/comm", "wb", buffering=0) as file:
        file.write(_OWN_NAME)
    _named.done = True


def _is_ours(body: bytes) -> bool:
    """Whether a change was made by a thread of this process (NFTA_GEN_PROC_NAME, NFTA_GEN_PROC_PID)."""
    found = attributes(body, _GENERIC_HEADER)
    if found.get(_GEN_PROC_NAME, b"").rstrip(b"\0") == _OWN_NAME:
        return True
    who = found.get(_GEN_PROC_PID, b"")
    return os.path.exists(f"/proc/self/task/{int.from_bytes(who, 'big')}")


def survives_reading() -> bool:
    """Let a short-lived process read the whole ruleset; says whether the library survived it.

    libnftables before 1.1 ends its process when it reads a named set that a newer one wrote, and almost every command
    reads all sets. What may happen to a child must not happen to the engine.
    """
    code = "import sys; sys.path[:] = {path!r}; from wherry.linux.nftables import read_all; read_all()"
    path = [os.path.abspath(entry) for entry in sys.path if entry]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code.format(path=path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return done.returncode >= 0


def list_chain_apart(place: str) -> str:
    """List a chain in a process of its own, whose complaints nobody reads; empty where the chain is gone.

    For rules of iptables the library loads iptables' extensions, and writes to stderr which of them are not installed.

    Args:
        place: FAMILY TABLE CHAIN.
    """
    code = "import sys; sys.path[:] = {path!r}; from wherry.linux.nftables import print_chain; print_chain({place!r})"
    path = [os.path.abspath(entry) for entry in sys.path if entry]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code.format(path=path, place=place)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


def print_chain(place: str) -> None:
    """Print a chain; for `list_chain_apart`'s child."""
    sys.stdout.write(Nftables().run(f"list chain {place}", "look at a chain"))


def read_all() -> None:
    """Read the whole ruleset; for `survives_reading`'s child."""
    Nftables().run("list ruleset", "read the ruleset")


class Nftables:
    """A libnftables context of the network namespace in which it is made. Calls from several threads take turns.

    Raises:
        NotSupported: the library is missing.
    """

    def __init__(self) -> None:
        try:
            library = ctypes.CDLL(_LIBRARY, use_errno=True)
        except OSError:
            raise NotSupported(f"published ports and NAT need {_LIBRARY} (package libnftables1)") from None
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        library.nft_ctx_free.restype = None
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        for name in ("nft_ctx_free", "nft_ctx_buffer_output", "nft_ctx_buffer_error"):
            getattr(library, name).argtypes = [ctypes.c_void_p]
        for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
            getattr(library, name).argtypes = [ctypes.c_void_p]
            getattr(library, name).restype = ctypes.c_char_p
        self._library = library
        self._lock = threading.Lock()
        self._context = library.nft_ctx_new(0)
        if not self._context:
            raise KernelError("open an nftables context", ctypes.get_errno())
        library.nft_ctx_buffer_output(self._context)
        library.nft_ctx_buffer_error(self._context)

    def close(self) -> None:
        """Free the context; calls after that are errors."""
        with self._lock:
            context, self._context = self._context, None
            if context:
                self._library.nft_ctx_free(context)

    def run(self, commands: str, what: str) -> str:
        """Carry out commands in nft's language as one transaction, and return what they print.

        Args:
            commands: newline-separated commands.
            what: what they do, in words, for the error.

        Raises:
            KernelError: the library or the kernel refused; nothing was changed. `errno` is the kernel's where it
                said one.
        """
        with self._lock:
            if not self._context:
                raise KernelError(f"{what}: nftables is closed")
            failed = self._library.nft_run_cmd_from_buffer(self._context, commands.encode())
            output = self._library.nft_ctx_get_output_buffer(self._context) or b""
            complaint = self._library.nft_ctx_get_error_buffer(self._context) or b""
        if failed:
            raise _error(what, complaint.decode("utf-8", "replace"))
        return str(output.decode("utf-8", "replace"))


def _error(what: str, complaint: str) -> KernelError:
    # the first line says it, the others quote the command and point into it; errno itself is stale by now
    first = complaint.partition("\n")[0]
    words = first.partition("Error: ")[2] or first or "refused"
    for number in (errno.ENOENT, errno.EEXIST, errno.EPERM, errno.EBUSY):
        if words.partition(";")[0].endswith(os.strerror(number)):  # "No such file…; did you mean table…"
            return KernelError(f"{what}: nftables", number)
    return KernelError(f"{what}: nftables: {words}")
