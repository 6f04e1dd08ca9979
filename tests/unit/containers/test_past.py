"""A log that was opened is read whole, whatever becomes of the container meanwhile."""

import asyncio
import json
import os
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wherry.containers.past import HeldLog
from wherry.monitor import logreader


def _line(text: str) -> str:
    return json.dumps({"log": text, "stream": "stdout", "time": "2026-01-01T00:00:00.000000000Z"}) + "\n"


@pytest.mark.parametrize("follow", [False, True])
def test_a_removed_container_is_read_whole(tmp_path: Path, follow: bool) -> None:
    """The directory goes between the answer's head and its body, as with docker-py's `run(remove=True)`."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "x-json.log.1").write_text(_line("one\n"))
    (data / "x-json.log").write_text(_line("two\n"))
    held = HeldLog(str(data / "x-json.log"))
    shutil.rmtree(data)
    ours, theirs = socket.socketpair()

    async def run_worker(kind: str, args: dict[str, Any], fds: dict[str, int]) -> dict[str, Any]:
        # a forked worker has copies
        copies = {name: os.dup(fd) for name, fd in fds.items()}
        await asyncio.to_thread(logreader.worker, args, copies)
        return {}

    request = {"path": str(data / "x-json.log"), "run_dir": str(tmp_path / "gone"), "follow": follow, "framed": False}
    context: Any = SimpleNamespace(run_worker=run_worker)
    with ours, theirs:
        asyncio.run(asyncio.wait_for(held.read(context, request, theirs.fileno()), 20))
        theirs.shutdown(socket.SHUT_WR)
        assert ours.recv(1000) == b"one\ntwo\n"


def test_what_nobody_reads_is_closed(tmp_path: Path) -> None:
    """A client that leaves before its answer costs no descriptor."""
    (tmp_path / "x").write_text(_line("one\n"))
    before = len(os.listdir("/proc/self/fd"))
    held = HeldLog(str(tmp_path / "x"))
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del held
    assert len(os.listdir("/proc/self/fd")) == before
