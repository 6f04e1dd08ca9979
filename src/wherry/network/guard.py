"""Our firewall table comes back when somebody flushes the ruleset (`nft -f /etc/nftables.conf`, a firewalld reload)."""

import asyncio
import logging
from typing import Protocol

from wherry.errors import KernelError
from wherry.linux.nftables import RulesetWatch

_log = logging.getLogger(__name__)
_SETTLE_SECONDS = 0.1


class Restorable(Protocol):
    """`Firewall`, as far as it matters here."""

    def restore(self) -> bool: ...
    def reconsider(self) -> None: ...


class Guard:
    """Watches the ruleset from an event loop and has the table put back, in a thread.

    A reload is many changes; the look comes once they have settled, and our own changes cost one look of a millisecond.

    Args:
        firewall: whose table it is.
    """

    def __init__(self, firewall: Restorable) -> None:
        self._firewall = firewall
        self._watch: RulesetWatch | None = None
        self._changed = asyncio.Event()
        self._foreign = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch; needs a running loop.

        Raises:
            KernelError: the kernel gives no news of the ruleset.
        """
        self._watch = RulesetWatch()
        asyncio.get_running_loop().add_reader(self._watch.fileno(), self._news)
        self._task = asyncio.create_task(self._keep(), name="firewall guard")

    async def close(self) -> None:
        """Stop watching; the table stays."""
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch.fileno())
            self._watch.close()
            self._watch = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def _news(self) -> None:
        if self._watch is not None:
            self._foreign = self._watch.drain() or self._foreign
            self._changed.set()

    async def _keep(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(_SETTLE_SECONDS)
            self._changed.clear()
            foreign, self._foreign = self._foreign, False
            try:
                restored = await asyncio.to_thread(self._firewall.restore)
                if foreign and not restored:
                    await asyncio.to_thread(self._firewall.reconsider)
                if restored:
                    _log.warning("the firewall ruleset was flushed by somebody: published ports were put back")
            except KernelError as error:
                _log.error("published ports cannot be put back: %s", error)
