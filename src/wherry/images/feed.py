"""Give bytes that arrive on the event loop to a thread that reads a descriptor.

The verbs that take an archive read it in a thread, from a descriptor; a request's body comes as chunks. A pipe joins
the two, and holds the sender back when the thread is slower.
"""

import asyncio
import fcntl
import os
import threading
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

T = TypeVar("T")

Source = AsyncIterator[bytes] | int
_PIPE = 1 << 20


async def read_in_thread(source: Source, read: Callable[[int], T], undo: Callable[[T], None] | None = None) -> T:
    """Return `read(fd)`, run in a thread, where reading `fd` gives what `source` gives.

    Args:
        source: chunks, or a descriptor, which stays the caller's.
        read: blocking function; when it returns before the end of the source, the rest is not read.
        undo: takes back what `read` made of a source that failed, which to it looked like one that had ended.

    Raises:
        whatever `read` raises, or whatever the chunks raise before that.
    """
    if isinstance(source, int):
        return await _finish(_start(lambda: read(source)))
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE)
        except PermissionError:
            pass  # the user's pipe quota is used up: a small pipe works too
        os.set_blocking(writing, False)
        thread = _start(lambda: _read_and_close(read, reading))
    except BaseException:
        os.close(reading)
        os.close(writing)
        raise
    failure: BaseException | None = None
    try:
        await _pump(source, writing)
    except BaseException as error:  # noqa: BLE001 (raised again below, after the thread has ended)
        failure = error
    finally:
        os.close(writing)
    if failure is None:
        return await _finish(thread)
    try:
        result = await _finish(thread)
    except Exception:  # noqa: BLE001 (the consequence of the failure that is raised)
        raise failure from None
    if undo is not None:
        await asyncio.to_thread(undo, result)
    raise failure


def _start(call: Callable[[], T]) -> "asyncio.Future[T]":
    """Run `call` in a thread of its own: one that waits for a slow client must not hold a place in the shared pool."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        try:
            result, error = call(), None
        except BaseException as raised:  # noqa: BLE001 (the waiter gets it)
            result, error = None, raised
        loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="archive", daemon=True).start()
    return future


async def _finish(thread: "asyncio.Future[T]") -> T:
    """Wait for the thread even when cancelled: it uses descriptors that the caller is about to close."""
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        await asyncio.wait([thread])
        if not thread.cancelled():
            thread.exception()
        raise


def _read_and_close(read: Callable[[int], T], fd: int) -> T:
    try:
        return read(fd)
    finally:
        os.close(fd)


async def _pump(chunks: AsyncIterator[bytes], fd: int) -> None:
    async for chunk in chunks:
        view = memoryview(chunk)
        while view:
            try:
                view = view[os.write(fd, view) :]
            except BlockingIOError:
                await _writable(fd)
            except BrokenPipeError:
                return  # the reader has all it wants, or has failed; its result says which


async def _writable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def settle() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_writer(fd, settle)
    try:
        await ready
    finally:
        loop.remove_writer(fd)
