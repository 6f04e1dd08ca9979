"""Real engines for the end-to-end tests: each with roots of its own, and nothing left when it goes."""

from collections.abc import Iterator

import pytest

from tests.e2e.harness import EngineProcess, running
from tests.e2e.shared import lent


@pytest.fixture(scope="session")
def shared_engine() -> Iterator[EngineProcess]:
    """Give an engine with busybox in it, for tests that leave it as they found it."""
    made = EngineProcess()
    # servers of tests are on this machine, which is closed to builds
    made.configure({"builder": {"allowed-hosts": ["127.0.0.0/8", "::1"]}})
    with running(made) as engine:
        yield engine


@pytest.fixture
def engine(shared_engine: EngineProcess) -> Iterator[EngineProcess]:
    """Give the shared engine; what the test made is removed after it."""
    with lent(shared_engine) as engine:
        yield engine


@pytest.fixture
def own_engine() -> Iterator[EngineProcess]:
    """Give an engine of the test's own, with busybox in it, that may be killed and restarted."""
    with running(EngineProcess()) as engine:
        yield engine
