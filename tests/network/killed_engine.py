"""wherryd that kills itself at the Nth step of a verb on networks: `python -m tests.network.killed_engine N_FILE …`.

A step is whatever outlives a crash: a file opened for writing, renamed, cut off or removed, a directory made, a switch
of the kernel set, a netlink message that changes links or addresses, a change of the ruleset, a request to a monitor
(not sent yet, and sent but not answered). While the file is there they are counted; the one whose number it holds is
not begun.
"""

import asyncio
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wherry import daemon
from wherry.linux.netlink import Netlink
from wherry.linux.nfnetlink import Transactions
from wherry.linux.nftables import Nftables
from wherry.monitor.handle import MonitorHandle

# what names do beside a verb, at a time of their own, and say again to whoever comes after
_BESIDE = ("resolver", "ports")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_FILE_EVENTS = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate")


class Steps:
    """Counts them, and kills.

    Args:
        armed: the file with the number.
        places: what of the file system counts.
    """

    def __init__(self, armed: Path, places: tuple[str, ...]) -> None:
        self._armed = armed
        self._places = places
        self._done = 0
        self._lock = threading.Lock()
        self._looking = threading.local()

    def step(self, name: str) -> None:
        """A step is about to be done."""
        with self._lock:
            self._looking.now = True
            try:
                last = int(self._armed.read_text())
            except FileNotFoundError:
                self._done = 0
                return
            finally:
                self._looking.now = False
            self._done += 1
            if self._done == last:
                os.write(2, f"killed at step {last}: {name}\n".encode())
                os.kill(os.getpid(), signal.SIGKILL)

    def hear(self, event: str, words: tuple[Any, ...]) -> None:
        """The interpreter's audit hook: what files are for."""
        if event == "open":
            if not (isinstance(words[2], int) and words[2] & _WRITING):
                return
        elif event not in _FILE_EVENTS:
            return
        if getattr(self._looking, "now", False):
            return
        path = words[0]
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        if isinstance(path, str) and path.startswith(self._places):
            self.step(f"{event} {path}")

    def count(self, owner: Any, name: str, counts: Callable[..., bool] = lambda *_args: True) -> None:
        """Count each call of a function."""
        real = getattr(owner, name)

        @functools.wraps(real)
        def run(*args: Any, **kwargs: Any) -> Any:
            if counts(*args):
                self.step(name)
            return real(*args, **kwargs)

        setattr(owner, name, run)

    def count_requests(self) -> None:
        """Count each request to a monitor twice."""
        real = MonitorHandle.request

        async def request(handle: MonitorHandle, op: str, **args: Any) -> Any:
            if op in _BESIDE:
                return await real(handle, op, **args)
            self.step(f"request {op}")
            asked = asyncio.ensure_future(real(handle, op, **args))
            await asyncio.sleep(0)  # it is sent
            self.step(f"answer to {op}")
            return await asked

        MonitorHandle.request = request  # type: ignore[method-assign, assignment]


def main() -> int:
    """Run wherryd with its steps counted."""
    armed, flags = Path(sys.argv[1]), sys.argv[2:]
    data, run = (flags[flags.index(name) + 1] for name in ("--data-root", "--exec-root"))
    steps = Steps(armed, (f"{data}/networks", f"{data}/containers/", f"{run}/containers/", "/proc/sys/net"))
    steps.count(Netlink, "run", lambda _netlink, requests: bool(requests))
    steps.count(Nftables, "run", lambda _nftables, commands, _what: not commands.startswith("list"))
    steps.count(Transactions, "commit")
    steps.count_requests()
    sys.addaudithook(steps.hear)
    return daemon.main(flags)


if __name__ == "__main__":
    sys.exit(main())
