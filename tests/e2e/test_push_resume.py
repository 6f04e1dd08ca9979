"""A push whose engine is killed: the registry still has the upload, and the next engine's push goes on there."""

import contextlib
import random
import select
import socket
import sqlite3
import subprocess
import threading
from pathlib import Path
from typing import Self

import pytest

from tests.e2e.harness import EngineProcess, until
from tests.images import image_archives as make
from tests.images.test_push_index import Ours

pytestmark = pytest.mark.root

NONE = 1 << 62
SIZE = 38 << 20
ENOUGH = 34 << 20


class Relay:
    """A TCP relay on loopback that counts what goes to the server, and passes on no more than `limit`."""

    def __init__(self, port: int) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._target = ("127.0.0.1", port)
        self.sent = 0
        self.limit = NONE
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()
        self._server.close()

    def _accept(self) -> None:
        while not self._end.is_set():
            if select.select([self._server], [], [], 0.05)[0]:
                client, _ = self._server.accept()
                thread = threading.Thread(target=self._carry, args=(client, socket.create_connection(self._target)))
                self._threads.append(thread)
                thread.start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        with client, server:
            while not self._end.is_set():
                held = self.sent >= self.limit
                # a client that was killed is noticed also while nothing of it is read
                if held and _is_gone(client):
                    return
                for ready in select.select([server] if held else [client, server], [], [], 0.05)[0]:
                    data = ready.recv(1 << 16)
                    if not data:
                        return
                    (server if ready is client else client).sendall(data)
                    self.sent += len(data) if ready is client else 0


def _is_gone(client: socket.socket) -> bool:
    poll = select.poll()
    poll.register(client, select.POLLRDHUP)
    return bool(poll.poll(0))


def places(engine: EngineProcess) -> list[str]:
    """What is on the disk of uploads that broke off."""
    with contextlib.closing(sqlite3.connect(f"file:{engine.roots.database}?mode=ro", uri=True)) as database:
        return [place for (place,) in database.execute("SELECT place FROM uploads")]


def test_a_killed_engine(own_engine: EngineProcess, tmp_path: Path) -> None:
    """Only the rest travels, and nothing is kept of it when it is done."""
    engine, registry = own_engine, Ours(tmp_path)
    registry.start()
    try:
        with Relay(registry.port) as relay:
            name = f"127.0.0.1:{relay.port}/team/big:1"
            layer = make.tar({"big": random.Random(7).randbytes(SIZE)})
            engine.wherry("load", "-q", stdin=make.tar(make.docker20([(make.config([layer]), [layer], [name])])))
            relay.limit = ENOUGH
            with subprocess.Popen(
                ["docker", "push", name], env=engine.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as client:
                until(lambda: relay.sent >= ENOUGH, "most of it was sent", 60)
                engine.kill()
                client.wait(30)
            engine.start()
            assert len(places(engine)) == 1
            relay.sent, relay.limit = 0, NONE
            engine.docker("push", "-q", name)
            assert relay.sent < SIZE - (30 << 20)
            assert places(engine) == []
            engine.docker("rmi", name)
            engine.docker("pull", "-q", name)
            assert "all whole" in engine.wherry("system", "check").out
    finally:
        registry.kill()
    engine.assert_no_traceback()
