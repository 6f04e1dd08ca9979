"""Fixtures of the monitor's tests; what they work with is in `bench.py`."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from .bench import Bench, open_bench


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system with nothing but busybox."""
    root = tmp_path_factory.mktemp("rootfs")
    for name in ("bin", "proc", "dev", "sys", "tmp", "etc"):
        (root / name).mkdir()
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for name in (
        "sh",
        "cat",
        "echo",
        "seq",
        "sleep",
        "true",
        "yes",
        "head",
        "stty",
        "grep",
        "dd",
        "printf",
        "kill",
        "tr",
    ):
        (root / "bin" / name).symlink_to("busybox")
    (root / "bin/data").write_text("not a program\n")
    return root


@pytest.fixture
def with_bench(tmp_path: Path, rootfs: Path) -> Iterator[Callable[[Callable[[Bench], Awaitable[None]]], None]]:
    """Run an async test with a spawner of its own; nothing is left afterwards."""

    def run(test: Callable[[Bench], Awaitable[None]]) -> None:
        async def main() -> None:
            async with open_bench(tmp_path, rootfs) as bench:
                await test(bench)

        asyncio.run(main())

    yield run
    unexpected = [error.read_text() for error in tmp_path.glob("data/*/monitor.err")]
    assert not unexpected, "\n".join(unexpected)
