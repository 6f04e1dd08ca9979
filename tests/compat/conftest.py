"""Both engines, once for all tests that compare them."""

from collections.abc import Iterator

import pytest

from tests.compat import engines


@pytest.fixture(scope="package")
def pair() -> Iterator[tuple[engines.Engine, engines.Engine]]:
    """Give (dockerd, wherryd), both with busybox."""
    with engines.both() as found:
        yield found
