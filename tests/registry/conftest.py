"""Registries for tests."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.registry.harness import Registry


@pytest.fixture
def start_registry(tmp_path: Path) -> Iterator[Callable[..., Registry]]:
    """Start registries; all end with the test."""
    running: list[Registry] = []

    def start(root: Path | None = None, **settings: Any) -> Registry:
        running.append(Registry(root or tmp_path / "registry", **settings))
        return running[-1]

    yield start
    for registry in running:
        registry.close()


@pytest.fixture
def registry(start_registry: Callable[..., Registry]) -> Registry:
    """A registry on an empty directory."""
    return start_registry()
