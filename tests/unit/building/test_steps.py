"""A build's step whose monitor is silent: nothing waits for it without an end."""

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wherry.building import steps
from wherry.building.steps import Steps
from wherry.containers.context import Context
from wherry.containers.model import Container, Record
from wherry.errors import CommandNotFound, Unavailable, to_wire
from wherry.wire.containers import Config, HostConfig

Tell = Callable[[dict[str, Any]], None]


def _container() -> Container:
    record = Record(
        id="0" * 64,
        name="build-0",
        created="",
        image="",
        image_name="",
        chain_ids=[],
        config=Config(),
        host_config=HostConfig(),
        path="true",
        args=[],
    )
    return Container(record)


async def _follow(script: Callable[[Tell, socket.socket], None]) -> tuple[int, bytes]:
    """Follow a step whose monitor does what `script` says, with its end of the step's output."""
    kept: list[socket.socket] = []
    loop = asyncio.get_running_loop()

    async def spawn(_message: Any, fds: Mapping[str, int], on_event: Tell, _on_lost: Any) -> None:
        kept.append(socket.socket(fileno=os.dup(fds["attach:0"])))
        loop.call_soon(script, on_event, kept[0])

    out = bytearray()
    context = cast(Context, SimpleNamespace(spawn=spawn))
    try:
        code = await Steps(context)._follow(
            _container(), {"attach": []}, {}, lambda _stream, data: out.extend(data), lambda: None
        )
        return code, bytes(out)
    finally:
        for sock in kept:
            sock.close()


def test_output_and_exit_code_of_a_step() -> None:
    """What the others of this file lack: the start, the exit, the end of the output."""

    def script(tell: Tell, sock: socket.socket) -> None:
        tell({"event": "started", "pid": 1})
        sock.sendall(b"\1\0\0\0\0\0\0\3out")
        tell({"event": "exited", "code": 3})
        sock.shutdown(socket.SHUT_WR)

    assert asyncio.run(_follow(script)) == (3, b"out")


def test_a_start_that_is_never_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step fails and says so; as that of a container it has a minute."""
    monkeypatch.setattr(steps, "START_DEADLINE", 0.1)

    async def main() -> None:
        async with asyncio.timeout(10):
            with pytest.raises(Unavailable, match="step 000000000000 was not started within"):
                await _follow(lambda *_: None)

    asyncio.run(main())


def test_output_that_does_not_end(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The step has ended: its code counts, what was written is there, and the log tells of the rest."""
    monkeypatch.setattr(steps, "_OUTPUT_DEADLINE", 0.1)

    def script(tell: Tell, sock: socket.socket) -> None:
        tell({"event": "started", "pid": 1})
        sock.sendall(b"\1\0\0\0\0\0\0\3out")
        tell({"event": "exited", "code": 0})

    async def main() -> tuple[int, bytes]:
        async with asyncio.timeout(10):
            return await _follow(script)

    assert asyncio.run(main()) == (0, b"out")
    assert "its output has not" in caplog.text


def test_a_failed_step_leaves_no_descriptor_in_the_loop() -> None:
    """A closed one that the loop still knows keeps the next of the same number from being heard, for ever."""

    def script(tell: Tell, _sock: socket.socket) -> None:
        tell({"event": "start-failed", "error": to_wire(CommandNotFound("no such program"))})

    async def main() -> None:
        with pytest.raises(CommandNotFound):
            await _follow(script)
        loop = cast(Any, asyncio.get_running_loop())
        for key in loop._selector.get_map().values():
            os.fstat(key.fd)

    asyncio.run(main())
