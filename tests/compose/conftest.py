"""An engine of the module's own, and a project directory for each test."""

from collections.abc import Iterator

import pytest

from tests.e2e.harness import EngineProcess


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineProcess]:
    """Give an engine with busybox in it."""
    engine = EngineProcess()
    try:
        engine.start()
        engine.wherry("image", "bootstrap", "busybox")
        yield engine
    finally:
        engine.destroy()
    engine.assert_clean()
