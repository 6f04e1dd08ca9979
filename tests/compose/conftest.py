"""An engine of the module's own, and a project directory for each test."""

from collections.abc import Iterator

import pytest

from tests.e2e.harness import EngineProcess, running


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineProcess]:
    """Give an engine with busybox in it."""
    with running(EngineProcess()) as engine:
        yield engine
