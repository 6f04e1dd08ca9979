"""The spawner: one warm process that forks monitors and workers, because a fork of it costs a millisecond.

It is executed by wherryd (`client.Spawner`) with one SOCK_SEQPACKET socket, has one thread, does nothing by itself, and
ends when that socket closes; what it forked goes on. Requests:

    {"op": "monitor", "seq", "launch": {…}}          -> {"pid", "start_time"} and `pidfd`
    {"op": "worker", "seq", "kind", "args": {…}}     -> {"pid", "start_time"} and `pidfd`

Everything that its children need is imported once, here, and never collected again (`gc.freeze`): the children share
those pages. When it has nothing to do it forks a spare, which becomes the next monitor: a start waits for no fork.
"""

import gc
import os
import select

from wherry.errors import InvalidArgument, WherryError, to_wire
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
    _Spawner(Channel.from_fd(fd)).run()


class _Spare:
    """A fork that waits to be told which container it is for; it ends when the spawner does."""

    __slots__ = ("channel", "pid", "pidfd")

    def __init__(self) -> None:
        self.channel, theirs = pair()
        self.pid = fork(lambda: _become_monitor(theirs))
        theirs.close()
        self.pidfd = os.pidfd_open(self.pid)

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
    """The loop, and the children that it will reap."""

    __slots__ = ("_channel", "_children", "_poll", "_spare")

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._children: dict[int, int] = {}  # pidfd -> pid
        self._poll = select.poll()
        self._poll.register(channel.fileno(), select.POLLIN)
        self._spare: _Spare | None = None

    def run(self) -> None:
        while True:
            events = self._poll.poll(_IDLE_MILLISECONDS if self._spare is None else None)
            if not events:
                self._make_spare()
            for ready, _ in events:
                if ready != self._channel.fileno():
                    self._reap(ready)
                    continue
                try:
                    received = self._channel.receive()
                except InvalidArgument as error:
                    self._channel.send({"seq": None, "error": to_wire(error)})
                    continue
                if received is None:
                    return
                try:
                    self._serve(*received)
                except ConnectionError:
                    return  # who asked is gone: what was forked for it goes on, and the next engine finds it

    def _make_spare(self) -> None:
        spare = self._spare = _Spare()
        self._watch(spare.pid, spare.pidfd)

    def _watch(self, pid: int, pidfd: int) -> None:
        self._children[pidfd] = pid
        self._poll.register(pidfd, select.POLLIN)

    def _reap(self, pidfd: int) -> None:
        self._poll.unregister(pidfd)
        os.waitpid(self._children.pop(pidfd), 0)
        os.close(pidfd)
        if self._spare is not None and self._spare.pidfd == pidfd:
            self._spare.channel.close()
            self._spare = None

    def _serve(self, message: "dict[str, Any]", fds: "dict[str, int]") -> None:
        seq = message.get("seq")
        try:
            pid, pidfd = self._give(message, fds)
            reply = {"seq": seq, "ok": True, "pid": pid, "start_time": start_time(pid)}
        except (WherryError, OSError) as error:
            self._channel.send({"seq": seq, "error": to_wire(error)})
            return
        finally:
            close_all(list(fds.values()))
        self._channel.send(reply, {"pidfd": pidfd})

    def _give(self, message: "dict[str, Any]", fds: "dict[str, int]") -> "tuple[int, int]":
        """The process that does what is asked: the spare, or a new fork."""
        _check(message, fds)
        spare = self._spare
        if spare is not None and message["op"] == "monitor":
            self._spare = None
            if spare.use(message, fds):
                return spare.pid, spare.pidfd
        pid = fork(lambda: _child(message, fds))
        pidfd = os.pidfd_open(pid)
        self._watch(pid, pidfd)
        return pid, pidfd


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


def _become_monitor(channel: Channel) -> None:
    become_child([channel.fileno()], "wherry-spare")
    received = channel.receive()
    channel.close()
    if received is not None:
        message, fds = received
        launch = message["launch"]
        set_title("wherry-monitor", launch["id"])
        monitor.main(launch, fds)


def _child(message: "dict[str, Any]", fds: "dict[str, int]") -> None:
    keep = list(fds.values())
    if message["op"] == "monitor":
        launch = message["launch"]
        become_child(keep, "wherry-monitor", launch["id"])
        monitor.main(launch, fds)
    else:
        become_child(keep, f"wherry-{message['kind']}"[:15])
        run_worker(message["kind"], message.get("args") or {}, fds)
