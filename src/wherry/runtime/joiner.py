"""The child's side of `join`: one process that prepares outside of the container's pid namespace, and a member of it.

A process of the container that has CAP_SYS_PTRACE may trace every process that it sees, and so do all that this one
may. So nobody in there sees a process that has more than the program is going to have: the first process enters all
other namespaces, takes on the program's limits, ids, capabilities and filter, closes what leads out, and only then
makes the member, as a sibling of its own. The member leads a session, takes its terminal, and executes.

The member goes on in the memory of the first process, which waits in the kernel meanwhile: a copy would cost as much as
all else. Whoever traces the member can write that memory, so the first process must never run again, with its place in
the host's pid namespace. Its parent traces it so that it stops before it would (H), and kills it. Where the parent may
not trace it, the member is an ordinary fork.
"""

import errno
import gc
import os

from wherry.linux import inodes
from wherry.linux.files import O_PATH
from wherry.linux.namespace import NAMESPACES, setns
from wherry.linux.process import PR_SET_DUMPABLE, close_from, prctl, set_name
from wherry.runtime import become as b
from wherry.runtime.execute import make_terminal
from wherry.runtime.last_calls import RLIMIT_NPROC, LastCalls
from wherry.runtime.sync import BORN, CGROUP, FAILED, HELD, NOT_EXECUTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from wherry.runtime.process_plan import ProcessPlan
    from wherry.runtime.stdio import Stdio
    from wherry.runtime.sync import ChildSide

NAME = "wherry-launch"
"""What both are called until the member has executed (comm(5))."""


class Joiner:
    """One process that joins.

    Args:
        target: pidfd of the container's process 1.
        flags: the namespaces to enter, of it.
        plan: what the program gets.
        stdio: as for `join`.
        seccomp: compiled filter, or None.
        socketcalls, keyring: as for `join`.
        channel: to the parent.
        words: to the parent, for the member.
    """

    __slots__ = ("_confinement", "_flags", "_keyring", "_last", "_plan", "_stdio", "_sync", "_target", "_words")

    def __init__(
        self,
        target: int,
        flags: int,
        plan: "ProcessPlan",
        stdio: "Stdio",
        seccomp: bytes | None,
        *,
        socketcalls: bool,
        keyring: bool,
        channel: "ChildSide",
        words: "ChildSide",
    ) -> None:
        self._target = target
        self._flags = flags
        self._plan = plan
        self._stdio = stdio
        self._last = LastCalls()
        self._confinement = b.Confinement(seccomp, socketcalls=socketcalls, last=self._last)
        self._keyring = keyring
        self._sync = channel
        self._words = words

    def run(self) -> "NoReturn":
        """Prepare, and make the member. Never returns."""
        try:
            gc.disable()
            b.isolate()
            stdio = () if self._stdio.terminal else (self._stdio.stdin, self._stdio.stdout, self._stdio.stderr)
            channels = (self._sync.fileno(), self._words.fileno())
            close_from(3 + self._stdio.preserve, keep=(*channels, self._target, *stdio))
            inodes.prepare_briefly()
            labels = b.Labels(self._plan)
            set_name(NAME)
            self._sync.wait(CGROUP)  # before the cgroup namespace hides where we come from
            if self._flags:
                setns(self._target, self._flags)
            if self._flags & NAMESPACES["user"][0]:
                os.setgroups([])
                os.setresgid(0, 0, 0)
                os.setresuid(0, 0, 0)
                prctl(PR_SET_DUMPABLE, 0, what="prctl PR_SET_DUMPABLE")
            self._connect()
            path, environment = b.become(
                self._plan,
                confinement=self._confinement,
                labels=labels,
                keyring=self._keyring,
                lend=lambda listener: self._sync.say("listener", listener),
                keep=channels,
                preserve=self._stdio.preserve,
                processes=1,  # this one
            )
            held = self._sync.heard(HELD)
            self._sync.close()
        except BaseException as error:  # noqa: BLE001  the parent raises it
            self._sync.fail(error)
            os._exit(1)
        self._pass_on(path, environment, held=held)

    def _connect(self) -> None:
        if not self._stdio.terminal:
            b.connect(self._stdio.stdin, self._stdio.stdout, self._stdio.stderr)
            return
        root = os.open("/", O_PATH | os.O_DIRECTORY)
        master, slave = make_terminal(root, self._plan.console_size)
        b.connect(slave, slave, slave)
        self._sync.say("terminal", master)

    def _pass_on(self, path: str, environment: "dict[str, str]", *, held: bool) -> "NoReturn":
        """Make the member. What is heard from here on may be a stranger's: only words."""
        try:
            if held:
                self._say(BORN, self._last.pass_on())
            elif pid := self._last.fork():
                self._say(BORN, pid)
                os._exit(0)
            number = self._be_member(path, environment)
            self._say(NOT_EXECUTED, number)
        except OSError as error:
            self._say(FAILED, error.errno)
        finally:
            os._exit(1)

    def _be_member(self, path: str, environment: "dict[str, str]") -> int:
        """Execute. Returns why that failed."""
        self._last.lead_session()
        if self._stdio.terminal:
            self._last.take_terminal(0)
        for _, number, soft, hard in self._plan.rlimits:
            if number == RLIMIT_NPROC:
                self._last.limit_processes(soft, hard)
        try:
            os.execve(path, self._plan.args, environment)
        except OSError as error:
            return error.errno or 0
        except ValueError:  # a NUL
            return errno.EINVAL

    def _say(self, word: bytes, number: int | None) -> None:
        try:
            self._words.say_word(b"%s%d" % (word, number or 0))
        except OSError:
            return  # the parent is gone, and with it who waits
