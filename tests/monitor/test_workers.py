"""Short workers: a log that is followed, and the trash that is emptied."""

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from wherry.errors import Unavailable

from .bench import Bench, Client, frames

pytestmark = pytest.mark.root

Run = Callable[[Callable[[Bench], Awaitable[None]]], None]


def test_logs_follow(with_bench: Run) -> None:
    """A follower gets what comes, over rotations, and the end of file when the container stops."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        log = {"driver": "json-file", "path": str(container.log), "max_size": 20_000, "max_file": 4, "attrs": {}}
        script = "while read n; do seq $n $((n + 99)); done"
        await container.run("sh", "-c", script, open_stdin=True, log=log)
        writer = await container.attach(stdout=False, stderr=False)
        reader = Client.pair()
        worker = asyncio.create_task(
            bench.spawner.run_worker(
                "logs",
                {"path": str(container.log), "run_dir": str(container.run_dir), "follow": True},
                {"client": reader.fd},
            )
        )
        received = bytearray()
        for start in range(1, 2000, 100):
            await writer.send(f"{start}\n".encode())
            while not received.endswith(f"{start + 99}\n".encode()):
                received += await reader.until(b"\n")
                reader.handed_over()
        await container.request("signal", signal=9)
        await worker
        received += await reader.read()
        assert frames(bytes(received)) == {1: "".join(f"{n}\n" for n in range(1, 2001)).encode()}
        reader.close()
        writer.close()
        await container.event("exited")

    with_bench(test)


def test_follower_ends_with_its_client(with_bench: Run) -> None:
    """A follower whose client has gone ends at once."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await container.run("sh", "-c", "echo one; sleep 100")
        reader = Client.pair()
        worker = asyncio.create_task(
            bench.spawner.run_worker(
                "logs",
                {"path": str(container.log), "run_dir": str(container.run_dir), "follow": True, "framed": False},
                {"client": reader.fd},
            )
        )
        await reader.until(b"one\n")
        reader.close()
        async with asyncio.timeout(5):
            await worker

    with_bench(test)


def test_a_killed_worker_is_not_waited_for(with_bench: Run) -> None:
    """The worker's end counts, not that of its result's pipe, which somebody else may hold open."""

    async def test(bench: Bench) -> None:
        container = bench.container()
        await container.run("sh", "-c", "echo one; sleep 100")
        reader = Client.pair()
        args = {"path": str(container.log), "run_dir": str(container.run_dir), "follow": True, "framed": False}
        worker = asyncio.create_task(bench.spawner.run_worker("logs", args, {"client": reader.fd}))
        await reader.until(b"one\n")
        spawner = bench.spawner.pid
        found = Path(f"/proc/{spawner}/task/{spawner}/children").read_text().split()
        (pid,) = [int(one) for one in found if Path(f"/proc/{one}/comm").read_text() == "wherry-logs\n"]
        pipes = [fd for fd in Path(f"/proc/{pid}/fd").iterdir() if os.readlink(fd).startswith("pipe:")]
        held = [os.open(fd, os.O_WRONLY | os.O_CLOEXEC) for fd in pipes]
        try:
            assert held
            os.kill(pid, signal.SIGKILL)
            async with asyncio.timeout(5):
                with pytest.raises(Unavailable, match="was killed before it was done"):
                    await worker
        finally:
            for fd in held:
                os.close(fd)
            reader.close()

    with_bench(test)


def test_remove_worker(with_bench: Run, tmp_path: Path) -> None:
    """Deep trees, immutable files and links go; what a link points to stays; errors come back as their class."""

    async def test(bench: Bench) -> None:
        keep = tmp_path / "keep"
        keep.mkdir()
        (keep / "file").write_text("x")
        tree = tmp_path / "tree"
        tree.mkdir()
        (tree / "link").symlink_to(keep)
        here = os.open(tree, os.O_RDONLY)
        for _ in range(300):
            os.mkdir("d" * 50, dir_fd=here)
            inner = os.open("d" * 50, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = inner
        os.close(os.open("deep", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        os.close(here)
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(tree / "sock"))
        sock.close()
        result = await bench.spawner.run_worker("remove", {"paths": [str(tree), str(tmp_path / "absent")]})
        assert result == {"removed": 2}
        assert not tree.exists()
        assert (keep / "file").exists()
        with pytest.raises(Exception, match="not an absolute path"):
            await bench.spawner.run_worker("remove", {"paths": ["relative"]})

    with_bench(test)
