"""Caches that one step at a time may have (`sharing=locked`): no two steps wait for each other."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from wherry.builder.contexts.context import Tree
from wherry.builder.graph.operations import Exec, Mount
from wherry.builder.mounts import CacheLocks, Mounts, Ready
from wherry.images.stores import Stores


class _Source:
    """Files that a new cache begins with."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def ready(self) -> None:
        """They are there."""

    def open(self) -> int:
        """A descriptor of their directory."""
        return os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def digest(self, *_: Any, **__: Any) -> str:
        """Always the same."""
        return "digest"


async def _fill(_kind: str, _args: dict[str, Any], _fds: Mapping[str, int]) -> dict[str, Any]:
    for _ in range(10):  # others get their turn meanwhile
        await asyncio.sleep(0)
    return {}


def _step(*mounts: tuple[str, str, str]) -> Exec:
    """A step with cache mounts: id, target, sharing."""
    made = [Mount("cache", target, id=id_, sharing=sharing, input=1) for id_, target, sharing in mounts]
    return Exec(("true",), mounts=tuple(made))


def _run(tmp_path: Path, *steps: Exec) -> list[int]:
    """Prepare all steps at once; returns how many mounts each got, or raises after five seconds."""
    source = cast(Tree, _Source(tmp_path))

    async def prepare(mounts: Mounts, step: Exec, number: int) -> int:
        def place(name: str) -> str:
            (tmp_path / f"{number}-{name}").mkdir(exist_ok=True)
            return str(tmp_path / f"{number}-{name}")

        async with mounts.ready(step, [None, source], place, cast(Stores, None)) as ready:
            assert isinstance(ready, Ready)
            await asyncio.sleep(0)
            return len(ready.specs)

    async def main() -> list[int]:
        directory = tmp_path / "mounts"
        directory.mkdir()
        mounts = Mounts(str(directory), CacheLocks(), secrets={}, agents=None, run_worker=_fill)
        async with asyncio.timeout(5):
            return await asyncio.gather(*(prepare(mounts, step, number) for number, step in enumerate(steps)))

    return asyncio.run(main())


pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a directory to root")


def test_two_steps_take_two_caches_in_different_orders(tmp_path: Path) -> None:
    """Each would have one cache and wait for the other."""
    one = _step(("a", "/a", "locked"), ("b", "/b", "locked"))
    other = _step(("b", "/b", "locked"), ("a", "/a", "locked"))
    assert _run(tmp_path, one, other, one, other) == [2, 2, 2, 2]


def test_a_step_mounts_its_cache_twice(tmp_path: Path) -> None:
    """It would wait for itself."""
    assert _run(tmp_path, _step(("a", "/a", "locked"), ("a", "/b", "locked"))) == [2]


def test_private_and_shared_caches_beside_locked_ones(tmp_path: Path) -> None:
    """Only locked ones are waited for."""
    mixed = _step(("a", "/a", "private"), ("b", "/b", "locked"), ("c", "/c", "shared"), ("a", "/d", "private"))
    assert _run(tmp_path, mixed, mixed, mixed) == [4, 4, 4]
