"""A registry with accounts for each module, and for each test."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.registry_accounts.serving import Registry


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """One registry for the tests of a module: alice, bob and carol, and root1 who administers."""
    registry = Registry(tmp_path_factory.mktemp("registry"), attempts=1000)
    registry.add("root1", admin=True)
    registry.add("alice", "bob", "carol")
    yield registry
    registry.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Registry]]:
    """Start registries; all end with the test."""
    running: list[Registry] = []

    def begin(**settings: Any) -> Registry:
        running.append(Registry(tmp_path / f"registry{len(running)}", **settings))
        return running[-1]

    yield begin
    for registry in running:
        registry.close()
