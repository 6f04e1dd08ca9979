"""How much the builder's cache may take."""

import pytest

from wherry.engine.build import kept_bytes
from wherry.errors import InvalidArgument


def test_the_limit_is_the_configured_one_or_a_tenth_of_the_disk() -> None:
    """Docker's key, in powers of 1024; nothing configured is a tenth of the file system."""
    assert kept_bytes({"gc": {"defaultKeepStorage": "20GB"}}, "/") == 20 << 30
    assert kept_bytes({"gc": {"enabled": False}}, "/") == 0
    assert kept_bytes({}, "/") >= 1 << 30


@pytest.mark.parametrize(
    "builder", [{"gc": {"policy": [{}]}}, {"entitlements": {}}, {"gc": []}, {"gc": {"defaultKeepStorage": "x"}}]
)
def test_what_is_not_known_is_refused(builder: dict[str, object]) -> None:
    """A key that would have no effect is an error that names it."""
    with pytest.raises(InvalidArgument, match=r"builder|size"):
        kept_bytes(builder, "/")
