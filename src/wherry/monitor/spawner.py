"""The spawner: one warm process that forks monitors and workers, because a fork of it costs a millisecond.

It is executed by wherryd (`client.Spawner`) with one SOCK_SEQPACKET socket, has one thread, does nothing by itself, and
ends when that socket closes; what it forked goes on. Requests:

    {"op": "monitor", "seq", "launch": {…}}          -> {"pid", "start_time"}
    {"op": "worker", "seq", "kind", "args": {…}}     -> {"pid", "start_time"} and `pidfd`

One that has ended by the time of the reply has the start time 0 and no `pidfd`. The kernel reaps the children (SIGCHLD
is ignored), so that the spawner keeps no descriptor of them, however many containers there are.

Everything that its children need is imported once, here, and never collected again (`gc.freeze`): the children share
those pages. When it has nothing to do it forks a spare, which becomes the next monitor: a start waits for no fork.
"""

import gc
import os
import select
import time

from wherry.errors import DescriptorsLost, InvalidArgument, WherryError, to_wire
from wherry.linux import signals
from wherry.linux.channel import Channel, close_all, pair
from wherry.monitor import monitor
from wherry.monitor.child import (
    become_child,
    close_all_but,
    fork,
    remember_arguments,
    set_title,
    settle_signals,
    start_time,
)
from wherry.monitor.workers import KINDS, run_worker
from wherry.runtime.become import warm
from wherry.runtime.cgroups.hierarchies import mounted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


# a burst of requests is served before a spare is made
_IDLE_MILLISECONDS = 30
# and how long after one could not be made: at a limit of processes or descriptors
_RETRY_SECONDS = 1.0


def main(fd: int) -> None:
    """Serve requests on the socket `fd` until it closes.

    Args:
        fd: our end of the socketpair.
    """
    close_all_but((0, 1, 2, fd))
    settle_signals()
    remember_arguments()
    set_title("wherry-spawner")
    # here, once: a child that starts a process would pay ten milliseconds for it each time
    warm()
    mounted()
    gc.collect()
    gc.freeze()
    signals.ignore(signals.SIGCHLD)
    _Spawner(Channel.from_fd(fd)).run()


class _Spare:
    """A fork that waits to be told which container it is for; it ends when the spawner does."""

    __slots__ = ("channel", "pid")

    def __init__(self) -> None:
        self.channel, theirs = pair()
        try:
            self.pid = fork(lambda: _become_monitor(theirs))
        except OSError:
            self.channel.close()
            raise
        finally:
            theirs.close()

    def use(self, message: "dict[str, Any]", fds: "dict[str, int]") -> bool:
        """Give it its task; false when it is dead."""
        try:
            self.channel.send(message, fds)
        except OSError:
            return False
        finally:
            self.channel.close()
        return True


class _Spawner:
    """The loop."""

    __slots__ = ("_channel", "_poll", "_spare", "_spare_from")

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._poll = select.poll()
        self._poll.register(channel.fileno(), select.POLLIN)
        self._spare: _Spare | None = None
        self._spare_from = 0.0

    def run(self) -> None:
        while True:
            events = self._poll.poll(self._patience())
            if not events:
                self._make_spare()
            for ready, _ in events:
                if ready != self._channel.fileno():
                    dead = self._take_spare()
                    if dead is not None:
                        dead.channel.close()
                    continue
                try:
                    received = self._channel.receive()
                except (InvalidArgument, DescriptorsLost) as error:
                    self._channel.send({"seq": error.facts.get("seq"), "error": to_wire(error)})
                    continue
                if received is None:
                    return
                try:
                    self._serve(*received)
                except ConnectionError:
                    return  # who asked is gone: what was forked for it goes on, and the next engine finds it

    def _patience(self) -> "int | None":
        """Milliseconds until a spare is made; None: there is one."""
        if self._spare is not None:
            return None
        return max(_IDLE_MILLISECONDS, int(1000 * (self._spare_from - time.monotonic())))

    def _make_spare(self) -> None:
        try:
            spare = _Spare()
        except OSError:
            self._spare_from = time.monotonic() + _RETRY_SECONDS  # a launch forks for itself meanwhile
            return
        self._spare = spare
        self._poll.register(spare.channel.fileno(), select.POLLIN)

    def _take_spare(self) -> "_Spare | None":
        spare, self._spare = self._spare, None
        if spare is not None:
            self._poll.unregister(spare.channel.fileno())
        return spare

    def _serve(self, message: "dict[str, Any]", fds: "dict[str, int]") -> None:
        seq, given = message.get("seq"), {}
        try:
            pid = self._give(message, fds)
            reply = {"seq": seq, "ok": True, "pid": pid, "start_time": _start_time(pid)}
            if message["op"] == "worker":
                given = _pidfd(pid)
        except (WherryError, OSError) as error:
            self._channel.send({"seq": seq, "error": to_wire(error)})
            return
        finally:
            close_all(list(fds.values()))
        try:
            self._channel.send(reply, given)
        finally:
            close_all(list(given.values()))

    def _give(self, message: "dict[str, Any]", fds: "dict[str, int]") -> int:
        """The process that does what is asked: the spare, or a new fork."""
        _check(message, fds)
        if message["op"] == "monitor":
            spare = self._take_spare()
            if spare is not None and spare.use(message, fds):
                return spare.pid
        return fork(lambda: _child(message, fds))


def _start_time(pid: int) -> int:
    try:
        return start_time(pid)
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _pidfd(pid: int) -> "dict[str, int]":
    try:
        return {"pidfd": os.pidfd_open(pid)}
    except ProcessLookupError:
        return {}


def _check(message: "dict[str, Any]", fds: "dict[str, int]") -> None:
    operation = message.get("op")
    if operation == "monitor":
        launch = message.get("launch")
        if "control" not in fds or not isinstance(launch, dict) or not {"id", "run_dir", "data_dir"} <= launch.keys():
            raise InvalidArgument("monitor needs `launch` and the descriptor `control`")
    elif operation == "worker":
        if message.get("kind") not in KINDS:
            raise InvalidArgument(f"no worker {message.get('kind')!r}")
    else:
        raise InvalidArgument(f"no operation {operation!r}")


def _have_children() -> None:
    """Wait for children again: a fork inherits that the spawner's are the kernel's to reap."""
    signals.default(signals.SIGCHLD)


def _become_monitor(channel: Channel) -> None:
    _have_children()
    become_child([channel.fileno()], "wherry-spare")
    received = channel.receive()
    channel.close()
    if received is not None:
        message, fds = received
        launch = message["launch"]
        set_title("wherry-monitor", launch["id"])
        monitor.main(launch, fds)


def _child(message: "dict[str, Any]", fds: "dict[str, int]") -> None:
    _have_children()
    keep = list(fds.values())
    if message["op"] == "monitor":
        launch = message["launch"]
        become_child(keep, "wherry-monitor", launch["id"])
        monitor.main(launch, fds)
    else:
        become_child(keep, f"wherry-{message['kind']}"[:15])
        run_worker(message["kind"], message.get("args") or {}, fds)
