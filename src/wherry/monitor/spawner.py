"""The spawner: one warm process that forks monitors and workers, because a fork of it costs a millisecond.

It is executed by wherryd (`client.Spawner`) with one SOCK_SEQPACKET socket, has one thread, does nothing by itself, and
ends when that socket closes; what it forked goes on. Requests:

    {"op": "monitor", "seq", "launch": {…}}          -> {"pid", "start_time"} and `pidfd`
    {"op": "worker", "seq", "kind", "args": {…}}     -> {"pid", "start_time"} and `pidfd`

Everything that its children need is imported once, here, and never collected again (`gc.freeze`): the children share
those pages.
"""

import gc
import os
import select

from wherry.errors import InvalidArgument, WherryError, to_wire
from wherry.linux.channel import Channel, close_all
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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(fd: int) -> None:
    """Serve requests on the socket `fd` until it closes.

    Args:
        fd: our end of the socketpair.
    """
    close_all_but((0, 1, 2, fd))
    settle_signals()
    remember_arguments()
    set_title("wherry-spawner")
    channel = Channel.from_fd(fd)
    children: dict[int, int] = {}  # pidfd -> pid
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    gc.collect()
    gc.freeze()
    while True:
        for ready, _ in poll.poll():
            if ready != fd:
                poll.unregister(ready)
                os.waitpid(children.pop(ready), 0)
                os.close(ready)
                continue
            try:
                received = channel.receive()
            except InvalidArgument as error:
                channel.send({"seq": None, "error": to_wire(error)})
                continue
            if received is None:
                return
            pidfd = _serve(channel, *received, children)
            if pidfd >= 0:
                poll.register(pidfd, select.POLLIN)


def _serve(channel: Channel, message: "dict[str, Any]", fds: "dict[str, int]", children: "dict[int, int]") -> int:
    """Answer one request; returns the new child's pidfd, or -1."""
    seq = message.get("seq")
    try:
        pid = _fork(message, fds)
        pidfd = os.pidfd_open(pid)
        children[pidfd] = pid
        reply = {"seq": seq, "ok": True, "pid": pid, "start_time": start_time(pid)}
    except (WherryError, OSError) as error:
        channel.send({"seq": seq, "error": to_wire(error)})
        return -1
    finally:
        close_all(list(fds.values()))
    channel.send(reply, {"pidfd": pidfd})
    return pidfd


def _fork(message: "dict[str, Any]", fds: "dict[str, int]") -> int:
    operation = message.get("op")
    if operation == "monitor":
        if "control" not in fds or not isinstance(message.get("launch"), dict):
            raise InvalidArgument("monitor needs `launch` and the descriptor `control`")
    elif operation == "worker":
        if message.get("kind") not in KINDS:
            raise InvalidArgument(f"no worker {message.get('kind')!r}")
    else:
        raise InvalidArgument(f"no operation {operation!r}")
    return fork(lambda: _child(message, fds))


def _child(message: "dict[str, Any]", fds: "dict[str, int]") -> None:
    keep = list(fds.values())
    if message["op"] == "monitor":
        launch = message["launch"]
        become_child(keep, "wherry-monitor", launch["id"])
        monitor.main(launch, fds)
    else:
        become_child(keep, f"wherry-{message['kind']}"[:15])
        run_worker(message["kind"], message.get("args") or {}, fds)
