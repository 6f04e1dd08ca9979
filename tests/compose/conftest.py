"""An engine of the module's own, and a project directory for each test."""

from collections.abc import Iterator

import pytest

from tests.e2e.harness import EngineProcess, running
from tests.e2e.shared import lent


@pytest.fixture(scope="module")
def shared() -> Iterator[EngineProcess]:
    """Give an engine with busybox in it."""
    with running(EngineProcess()) as engine:
        yield engine


@pytest.fixture
def engine(shared: EngineProcess) -> Iterator[EngineProcess]:
    """Give that engine; what the test made is removed after it."""
    with lent(shared) as engine:
        yield engine
