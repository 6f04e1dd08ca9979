"""A server over the fake engine, in a thread with a loop of its own, so that tests may use blocking sockets."""

import asyncio
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from wherry.api.server import build_app

from .fake_engine import FakeEngine


class Running:
    """A server that runs: its unix socket, its TCP port, its engine and its loop."""

    def __init__(self, directory: str) -> None:
        self.path = f"{directory}/api.sock"
        self.engine = FakeEngine()
        self.port = 0
        self.loop: asyncio.AbstractEventLoop
        self._ready = threading.Event()
        self._stop: asyncio.Event
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._main)
        self._thread.start()
        self._ready.wait(10)
        if self._error is not None:
            raise self._error

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001
            self._error = error
            self._ready.set()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = build_app(self.engine)
        bound = await server.start([f"unix://{self.path}", "tcp://127.0.0.1:0"])
        self.port = int(bound[1].rpartition(":")[2])
        self._ready.set()
        await self._stop.wait()
        await server.close(0.2)

    def descriptors(self) -> int:
        """Count the process's open descriptors, once the loop has done what it had to."""
        return int(self.call(lambda: len(os.listdir("/proc/self/fd"))))

    def call(self, function: Callable[[], Any]) -> Any:
        """Run `function` in the server's loop."""

        async def run() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    def stop(self) -> None:
        """Stop the server; streams go on."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)

    def close(self) -> None:
        """Stop it, and every stream."""
        self.stop()
        for thread in self.engine.threads:
            thread.join(10)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error

    def connect(self) -> socket.socket:
        """Open a connection to the unix socket."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(10)
        sock.connect(self.path)
        return sock

    def connect_tcp(self) -> socket.socket:
        """Open a connection to the TCP port."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)


@pytest.fixture
def server() -> Iterator[Running]:
    """A running server; a short directory, because a socket's path must be."""
    directory = tempfile.mkdtemp(prefix="wapi")
    try:
        running = Running(directory)
        try:
            yield running
        finally:
            running.close()
            assert os.listdir(directory) == []
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def sock(server: Any) -> Any:
    """A connection to it."""
    with server.connect() as connection:
        yield connection
