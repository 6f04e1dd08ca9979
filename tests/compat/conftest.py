"""Both engines, once for all tests that compare them."""

import os
from collections.abc import Iterator

import pytest

from tests.compat import engines
from tests.e2e.dockerd import available


@pytest.fixture(scope="package")
def pair() -> Iterator[tuple[engines.Engine, engines.Engine]]:
    """Give (dockerd, wherryd), both with busybox. A machine without dockerd passes over, CI does not."""
    if not available():
        reason = "no dockerd to compare with: scripts/install.sh python3 .venv peers"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with engines.both() as found:
        yield found
