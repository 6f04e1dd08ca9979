"""What the engine does when the host changes under it: rules are put back, networks follow the uplink."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from wherry.errors import KernelError
from wherry.linux.background import background
from wherry.linux.nftables import RulesetWatch

_log = logging.getLogger(__name__)
_SETTLE_SECONDS = 0.1


class Watch(Protocol):
    """News of the kernel."""

    def fileno(self) -> int: ...
    def drain(self) -> bool: ...
    def close(self) -> None: ...


class Restorable(Protocol):
    """`Firewall`, as far as it matters here."""

    def restore(self) -> bool: ...
    def reconsider(self) -> None: ...


class Watcher:
    """Watches news from an event loop, and has something done about those that matter, in a thread.

    Args:
        open_watch: opens the watch; its `drain` says whether something matters.
        act: blocking.
        what: what is watched, in words, for the log.
        settle: seconds to wait for the last of many changes.
    """

    def __init__(
        self, open_watch: Callable[[], Watch], act: Callable[[], None], what: str, *, settle: float = 0.0
    ) -> None:
        self._open = open_watch
        self._act = act
        self._what = what
        self._settle = settle
        self._watch: Watch | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._acting: asyncio.Future[None] | None = None

    def start(self, *, act: bool = False) -> None:
        """Begin to watch; needs a running loop. With `act` it is also done once at the beginning.

        Raises:
            KernelError: the kernel gives no such news.
        """
        self._watch = self._open()
        asyncio.get_running_loop().add_reader(self._watch.fileno(), self._news)
        self._task = background().stand(f"watch {self._what}", self._keep)
        if act:
            self._changed.set()

    async def close(self) -> None:
        """Stop watching. What is being done is waited for: a thread is not cancelled, and would undo what follows."""
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch.fileno())
            self._watch.close()
            self._watch = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._acting is not None:
            await asyncio.gather(self._acting, return_exceptions=True)

    def _news(self) -> None:
        if self._watch is not None and self._watch.drain():
            self._changed.set()

    async def _keep(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(self._settle)
            self._changed.clear()
            self._acting = asyncio.ensure_future(asyncio.to_thread(self._act))
            try:
                await asyncio.shield(self._acting)
            except KernelError as error:
                _log.error("%s changed, and the engine cannot follow: %s", self._what, error)


class Guard(Watcher):
    """Puts our firewall table back when somebody flushes the ruleset (`nft -f /etc/nftables.conf`).

    A reload is many changes; the look comes once they have settled. Our own changes cost none.

    Args:
        firewall: whose table it is.
    """

    def __init__(self, firewall: Restorable) -> None:
        def look() -> None:
            if firewall.restore():
                _log.warning("the firewall ruleset was flushed by somebody: published ports were put back")
            else:
                firewall.reconsider()

        super().__init__(RulesetWatch, look, "the firewall ruleset", settle=_SETTLE_SECONDS)
