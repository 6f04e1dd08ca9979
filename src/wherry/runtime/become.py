"""The last steps of a child, in the container: from Python with every right to what its program may have.

Used by `launch` and `join`. Nothing here may import or decode for the first time: the files are the container's.
"""

import errno
import fcntl
import os
import resource
import stat

from wherry.errors import HostileInput, InvalidArgument, KernelError
from wherry.linux import inodes, signals
from wherry.linux import process as p
from wherry.linux.identity import home_of, read_accounts, resolve
from wherry.linux.seccomp import install_asking_filter, install_filter
from wherry.linux.terminal import take
from wherry.runtime import command, socketcall
from wherry.runtime.devices import own_null
from wherry.runtime.process_plan import host_capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.runtime.last_calls import LastCalls
    from wherry.runtime.process_plan import ProcessPlan

_CODECS = ("utf-8", "ascii", "latin-1")


_is_warm = False


def warm() -> None:
    """Load, in the parent, what the child would otherwise load from the container's files.

    Warnings are silenced for good: to show one, Python imports what formats it, and by then the files are not ours.
    """
    global _is_warm
    if _is_warm:
        return  # this process, or the one that it was forked from, has done it
    _is_warm = True
    import warnings

    warnings.simplefilter("ignore")
    host_capabilities()
    for name in _CODECS:
        b"".decode(name)
    os.fsencode("")
    os.strerror(errno.EPERM)
    "".encode("utf-8", "surrogateescape")
    int.from_bytes(b"\0", "little")


class Labels:
    """Descriptors of this process's security attributes, opened on the host's /proc before a root is entered."""

    __slots__ = ("apparmor", "selinux")

    def __init__(self, plan: "ProcessPlan") -> None:
        self.apparmor = self.selinux = -1
        if plan.apparmor_profile and plan.apparmor_profile != "unconfined":
            self.apparmor = _attribute(("apparmor/exec", "exec"), "AppArmor", "/sys/module/apparmor/parameters/enabled")
        if plan.selinux_label:
            self.selinux = _attribute(("exec",), "SELinux", "/sys/fs/selinux/enforce")


def _attribute(names: "tuple[str, ...]", what: str, evidence: str) -> int:
    if os.path.exists(evidence):
        for name in names:
            try:
                return os.open(f"/proc/thread-self/attr/{name}", os.O_WRONLY | os.O_CLOEXEC)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EINVAL):
                    raise KernelError(f"set {what} label", error.errno or 0) from None
    raise KernelError(f"{what} was asked for, and this host does not have it", 0)


class Confinement:
    """The system-call filter of a process.

    Args:
        program: compiled, or None: it is not confined.
        socketcalls: somebody takes its listener and answers socketcall(SYS_SOCKET), see `socketcall`.
        last: calls that it lets pass, or None.
    """

    __slots__ = ("_last", "_socketcalls", "program")

    def __init__(self, program: bytes | None, *, socketcalls: bool, last: "LastCalls | None" = None) -> None:
        self.program = program
        self._socketcalls = socketcalls
        self._last = last

    def install(self, path: str, *, may_ask: bool) -> int | None:
        """Confine this process for good.

        Args:
            path: of the program that it is going to execute.
            may_ask: a filter that asks is allowed here.

        Returns:
            the listener; None: the filter asks nobody.

        Raises:
            KernelError: the kernel refuses the filter.
        """
        if self.program is None:
            return None
        if self._socketcalls and may_ask and socketcall.concerns(path):
            listener = install_asking_filter(self._passing(socketcall.asking(self.program)))
            if listener is not None:
                return listener
        install_filter(self._passing(self.program))
        return None

    def _passing(self, program: bytes) -> bytes:
        return program if self._last is None else self._last.passing(program)


def isolate() -> None:
    """First thing in a child: default signals, an own session, no umask."""
    signals.reset()
    os.setsid()
    os.umask(0)


def connect(stdin: int, stdout: int, stderr: int) -> None:
    """Put three descriptors in the place of 0, 1 and 2, inheritable."""
    wanted = [stdin, stdout, stderr]
    for index in range(3):
        # one that already lies in 0..2, and is not in its place, would be overwritten on the way
        if wanted[index] < 3 and wanted[index] != index:
            wanted[index] = _above(wanted[index])
    for index, fd in enumerate(wanted):
        if fd == index:
            os.set_inheritable(fd, True)
        else:
            os.dup2(fd, index, inheritable=True)


def _above(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


def become(
    plan: "ProcessPlan",
    *,
    confinement: Confinement,
    labels: Labels,
    keyring: bool,
    persona: int | None = None,
    before_filter: "Callable[[], None] | None" = None,
    lend: "Callable[[int], None]",
    keep: "tuple[int, ...]",
    preserve: int = 0,
    processes: int = 0,
) -> "tuple[str, dict[str, str]]":
    """Take on limits, ids, capabilities and filter. Stdio is connected already; the root is entered, and before that
    `inodes.prepare_briefly` was called.

    Args:
        plan: what to become.
        confinement: the filter.
        labels: opened before the root was entered.
        keyring: join a new session keyring.
        persona: personality(2), or None.
        before_filter: called when the program was found and all else is done (waits for `start`, runs hooks).
        lend: gets the listener of the filter, if it has one; it is closed afterwards.
        keep: close-on-exec descriptors that stay open.
        preserve: how many descriptors from 3 on the program inherits.
        processes: how many more than the plan's RLIMIT_NPROC are allowed, as far as that can be had.

    Returns:
        Where the program is, and its environment: for `command.execute`.

    Raises:
        WherryError: a step failed. The process must end.
    """
    own_null()
    if keyring:
        p.new_session_keyring()
    if persona is not None:
        p.set_personality(persona)
    environment = dict(plan.env)
    try:
        uid, gid, groups = _identify(plan, environment)
    finally:
        inodes.forget()
    _limit(plan, processes)
    if plan.no_new_privileges:
        p.prctl(p.PR_SET_NO_NEW_PRIVS, 1, what="prctl PR_SET_NO_NEW_PRIVS")
    try:
        os.chdir(plan.cwd)
        late_chdir = False
    except PermissionError:
        late_chdir = True  # a home on a file system that does not trust root: its owner may enter it
    except OSError as error:
        raise _cwd_error(plan.cwd, error.errno) from None
    if uid:
        _give_stdio(uid)
    caps = plan.capabilities
    p.drop_bounding(caps.bounding)
    if uid:
        p.prctl(p.PR_SET_KEEPCAPS, 1, what="prctl PR_SET_KEEPCAPS")
    _set_ids(uid, gid, groups)
    if late_chdir:
        try:
            os.chdir(plan.cwd)
        except OSError as error:
            raise _cwd_error(plan.cwd, error.errno) from None
    _check_cwd(plan.cwd)
    os.umask(plan.umask)
    path = command.find(plan.args[0], environment)
    if labels.apparmor >= 0:
        os.write(labels.apparmor, f"exec {plan.apparmor_profile}".encode())
    if labels.selinux >= 0:
        os.write(labels.selinux, plan.selinux_label.encode())
    p.close_from(3 + preserve, keep=keep)
    for fd in range(3, 3 + preserve):
        os.set_inheritable(fd, True)
    if before_filter is not None:
        before_filter()
    if confinement.program is not None:
        if uid and not plan.no_new_privileges:
            # the filter needs CAP_SYS_ADMIN, which setuid took out of the effective set; keepcaps kept it permitted
            _, permitted, inheritable = p.capget()
            p.capset(permitted, permitted, inheritable)
        # a security module judges who makes a socket by its label, and that would be ours
        may_ask = labels.apparmor < 0 and labels.selinux < 0
        listener = confinement.install(path, may_ask=may_ask)
        if listener is not None:
            lend(listener)
            os.close(listener)
    p.capset(caps.effective, caps.permitted, caps.inheritable)
    p.prctl(p.PR_CAP_AMBIENT, p.PR_CAP_AMBIENT_CLEAR_ALL, what="prctl PR_CAP_AMBIENT_CLEAR_ALL")
    for number in range(64):
        if caps.ambient >> number & 1:
            p.prctl(p.PR_CAP_AMBIENT, p.PR_CAP_AMBIENT_RAISE, number, what="raise ambient capability")
    return path, environment


def _identify(plan: "ProcessPlan", environment: "dict[str, str]") -> "tuple[int, int, tuple[int, ...]]":
    if plan.username:
        who = resolve(plan.username, read_accounts("/etc/passwd"), read_accounts("/etc/group"), plan.group_names)
        if not environment.get("HOME"):
            environment["HOME"] = who.home
        return who.uid, who.gid, tuple(dict.fromkeys(who.groups + plan.groups))
    if not environment.get("HOME"):
        try:
            environment["HOME"] = home_of(plan.uid, read_accounts("/etc/passwd"))
        except HostileInput:
            environment["HOME"] = "/"  # nobody asked for this file: it fails nothing
    return plan.uid, plan.gid, plan.groups


def _limit(plan: "ProcessPlan", processes: int) -> None:
    for _, number, soft, hard in plan.rlimits:
        try:
            if number == resource.RLIMIT_NPROC and processes and _more_processes(soft, hard, processes):
                continue
            resource.setrlimit(number, (soft, hard))
        except (ValueError, OSError) as error:
            # Python says ValueError where the kernel said EPERM or EINVAL
            code = error.errno if isinstance(error, OSError) else errno.EPERM
            raise KernelError(
                f"error setting rlimits for ready process: error setting rlimit type {number}", code or 0
            ) from None


def _more_processes(soft: int, hard: int, more: int) -> bool:
    """Set RLIMIT_NPROC higher than it is going to be; False where this process may not."""
    try:
        resource.setrlimit(
            resource.RLIMIT_NPROC, (soft if soft < 0 else soft + more, hard if hard < 0 else hard + more)
        )
    except (ValueError, OSError):
        return False
    return True


def _give_stdio(uid: int) -> None:
    """The program may open /dev/stdout again: what it writes to belongs to it, except devices that all share."""
    for fd in range(3):
        try:
            status = os.fstat(fd)
            if status.st_uid == uid or not (
                stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode) or os.isatty(fd)
            ):
                continue
            os.fchown(fd, uid, -1)
        except OSError as error:
            if error.errno not in (errno.EBADF, errno.EPERM, errno.EINVAL, errno.EROFS):
                raise KernelError("fchown stdio", error.errno or 0) from None


def _set_ids(uid: int, gid: int, groups: "tuple[int, ...]") -> None:
    try:
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise InvalidArgument(f"user {uid}:{gid} is not mapped in the container's user namespace") from None
        raise KernelError(f"become user {uid}:{gid}", error.errno or 0) from None


def _cwd_error(cwd: str, number: int | None) -> KernelError:
    return KernelError(f'chdir to cwd ("{cwd}") set in config.json failed', number or 0)


def _check_cwd(cwd: str) -> None:
    """A working directory that a descriptor of the host leads to has no path inside (CVE-2024-21626)."""
    try:
        os.getcwd()
    except OSError:
        raise HostileInput(
            f'chdir to cwd ("{cwd}") set in config.json failed: current working directory is outside of container '
            "mount namespace root -- possible container breakout detected"
        ) from None


def take_terminal(slave: int) -> None:
    """Make `slave` the stdio and the controlling terminal of this session."""
    take(slave)
    connect(slave, slave, slave)
