"""CRIU, executed: one run of `criu dump` or `criu restore`, with its log and what it says when it fails.

It is a program of the host, found on PATH by who calls; its command line is the interface (criu(8)), so that nothing
here depends on its library. What it is told to write and read is root's own: images hold the memory of processes.
"""

import os

from wherry.errors import KernelError, WherryError
from wherry.linux import signals
from wherry.linux.clone import clone, reap
from wherry.linux.namespace import CLONE_NEWCGROUP, unshare
from wherry.linux.process import PR_SET_NO_NEW_PRIVS, prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import NoReturn

    from wherry.runtime.cgroups.base import Cgroup

_PR_SET_PDEATHSIG = 1
_LOG_TAIL = 1 << 20
_MESSAGE = 300
# criu also needs tar, for the content of tmpfs mounts
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
# said by every run of one that lacks CAP_SYS_RESOURCE, and never the reason
_HARMLESS = ("rlimit:",)


def run(
    criu: "Sequence[str]",
    verb: str,
    words: "Sequence[str]",
    *,
    log: str,
    inherit: "Iterable[int]" = (),
    cgroup: "Cgroup | None" = None,
    namespace: bool = False,
    no_new_privileges: bool = False,
) -> None:
    """Run criu and wait for it. The caller must have no other thread.

    Args:
        criu: the program, and options that come before the verb.
        verb: `dump` or `restore`.
        words: its options; `--log-file` is added.
        log: absolute path of its log, made anew.
        inherit: descriptors that it keeps, under their numbers.
        cgroup: where it, and so what it restores, is born.
        no_new_privileges: it, and so what it restores, gains none by any program: CRIU 3 forgets that of a process.
        namespace: with a cgroup namespace of its own, of which that is the root.

    Raises:
        WherryError: it failed; with the first error of its log, and the log's path.
        KernelError: it could not be executed.
    """
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    argv = [*criu, verb, *words, "--log-file", log, "-v4"]
    born_in = cgroup.directory_fd() if cgroup is not None else None
    try:
        parent = os.getpid()
        pid, pidfd = clone(0, cgroup=born_in)
        if pid == 0:
            joins = cgroup if born_in is None else None
            _become(argv, fd, inherit, parent, joins, namespace, no_new_privileges)
    finally:
        os.close(fd)
        if born_in is not None:
            os.close(born_in)
    try:
        status = reap(pidfd)
    finally:
        os.close(pidfd)
    if status:
        how = f"exit status {status}" if status > 0 else f"signal {-status}"
        raise WherryError(f"criu failed: type {verb.upper()}: {first_error(log) or how}: log file: {log}")


def _become(
    argv: "list[str]",
    log: int,
    inherit: "Iterable[int]",
    parent: int,
    cgroup: "Cgroup | None",
    namespace: bool,
    nnp: bool,
) -> "NoReturn":
    code = 127
    try:
        prctl(_PR_SET_PDEATHSIG, signals.SIGKILL)
        if os.getppid() != parent:
            os._exit(code)
        if cgroup is not None:
            cgroup.add(os.getpid())
        if namespace:
            unshare(CLONE_NEWCGROUP)
        if nnp:
            prctl(PR_SET_NO_NEW_PRIVS, 1)
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        for number in inherit:
            os.set_inheritable(number, True)
        os.chdir("/")
        signals.reset()
        os.execve(argv[0], argv, _ENVIRONMENT)
    except BaseException as error:  # noqa: BLE001  the log is where the parent looks
        os.write(2, f"Error ({argv[0]}): {error}\n".encode("utf-8", "surrogateescape"))
    finally:
        os._exit(code)


def first_error(log: str) -> str:
    """The first error that a log of criu's tells of: those after it are its consequences. Empty where there is none."""
    try:
        with open(log, "rb") as file:
            text = file.read(_LOG_TAIL).decode("utf-8", "replace")
    except OSError as error:
        raise KernelError("read", error.errno or 0, log) from None
    for line in text.splitlines():
        _, found, words = line.partition("Error (")
        # `(00.133)  1: Error (criu/files-reg.c:2353): Can't open file …`
        message = words.partition("): ")[2].strip()
        if found and message and not message.startswith(_HARMLESS):
            return "".join(c if c.isprintable() else "?" for c in message[:_MESSAGE])
    return ""
