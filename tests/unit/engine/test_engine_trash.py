"""What is to be deleted is told from threads, while the engine's loop walks through what it knows."""

import asyncio
import threading

from wherry.engine.engine import Engine


class Watched(set[str]):
    """A set that notes who adds to it."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[int] = set()

    def add(self, element: str) -> None:
        self.threads.add(threading.get_ident())
        super().add(element)


def test_only_the_loops_thread_changes_what_is_condemned() -> None:
    """A volume that a thread condemned in the midst of a look stopped the look: set changed size during iteration."""

    async def test() -> None:
        engine = Engine.__new__(Engine)
        engine._loop, engine._trash, engine._condemned = asyncio.get_running_loop(), asyncio.Event(), Watched()
        for path in ("/one", "/two"):
            await asyncio.to_thread(engine._to_be_deleted, path)
        await asyncio.wait_for(engine._trash.wait(), 20)
        await asyncio.sleep(0)
        assert engine._condemned == {"/one", "/two"}
        assert engine._condemned.threads == {threading.get_ident()}

    asyncio.run(test())
