"""The watchers of the host's rules and of the uplink: what they do in a thread, and how they end."""

import asyncio
import os
import threading

from wherry.network.guard import Watcher


class News:
    """A watch whose news are bytes in a pipe."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()

    def fileno(self) -> int:
        return self.read

    def drain(self) -> bool:
        return bool(os.read(self.read, 100))

    def close(self) -> None:
        os.close(self.read)
        os.close(self.write)


def test_closing_waits_for_what_is_being_done() -> None:
    """A table that is put back while its engine ends would stay: the engine removes it after its watchers ended."""
    begun, may_end = threading.Event(), threading.Event()
    done: list[str] = []

    def act() -> None:
        begun.set()
        assert may_end.wait(20)
        done.append("put back")

    async def test() -> None:
        news = News()
        watcher = Watcher(lambda: news, act, "something")
        watcher.start()
        os.write(news.write, b"!")
        assert await asyncio.to_thread(begun.wait, 20)
        closing = asyncio.ensure_future(watcher.close())
        finished, _ = await asyncio.wait([closing], timeout=0.2)
        assert not finished
        may_end.set()
        await closing
        done.append("closed")

    asyncio.run(test())
    assert done == ["put back", "closed"]


def test_a_watcher_that_never_acted_closes() -> None:
    """Nothing to wait for."""

    async def test() -> None:
        watcher = Watcher(News, lambda: None, "something")
        watcher.start()
        await watcher.close()

    asyncio.run(test())
