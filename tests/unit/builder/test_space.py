"""How much the builder's cache may take."""

import pytest

from wherry.builder.cache.space import Rule, Space, rules
from wherry.errors import InvalidArgument

GB = 1 << 30


def test_the_limit_is_the_configured_one_or_a_tenth_of_the_disk() -> None:
    """Docker's keys, old and new, in powers of 1024; nothing configured is a tenth of the file system."""
    assert rules({"gc": {"defaultKeepStorage": "20GB"}}, "/") == [Rule(Space(20 * GB))]
    both = {"gc": {"defaultReservedSpace": "1GB", "defaultMaxUsedSpace": "2GB", "defaultMinFreeSpace": "3GB"}}
    assert rules(both, "/") == [Rule(Space(GB, 2 * GB, 3 * GB))]
    assert rules({"gc": {"enabled": False}}, "/") == []
    assert rules({}, "/")[0].space.reserved >= GB
    (half,) = rules({"gc": {"defaultMaxUsedSpace": "50%"}}, "/")
    assert half.space.max_used > GB


def test_rules_have_filters_and_sizes_of_their_own() -> None:
    """`policy`, in its order; the defaults do not count beside it."""
    policy = [
        {"filter": ["unused-for=48h", "type=source.local", "type=exec.cachemount"], "maxUsedSpace": "512MB"},
        {"all": True, "keepStorage": "1GB"},
    ]
    assert rules({"gc": {"policy": policy, "defaultKeepStorage": "9GB"}}, "/") == [
        Rule(
            Space(0, 512 << 20),
            {"unused-for": ["48h"], "type": ["source.local", "exec.cachemount"]},
        ),
        Rule(Space(GB), {}, everything=True),
    ]


@pytest.mark.parametrize(
    "builder",
    [
        {"gc": {"policy": [{"colour": 1}]}},
        {"gc": {"policy": {}, "defaultKeepStorage": "x"}},
        {"gc": {"policy": [{"filter": ["until"]}]}},
        {"entitlements": {}},
        {"gc": []},
        {"gc": {"defaultKeepStorage": "x"}},
    ],
)
def test_what_is_not_known_is_refused(builder: dict[str, object]) -> None:
    """A key that would have no effect is an error that names it."""
    with pytest.raises(InvalidArgument, match=r"builder|size"):
        rules(builder, "/")


@pytest.mark.parametrize(
    ("space", "free", "kept"),
    [
        (Space(), 5, 100),
        (Space(reserved=30), 5, 30),
        (Space(max_used=60), 5, 60),
        (Space(reserved=70, max_used=60), 5, 70),
        (Space(min_free=25), 5, 80),
        (Space(min_free=25), 30, 100),
        (Space(reserved=90, min_free=25), 5, 90),
        (Space(max_used=60, min_free=25), 5, 60),
        (Space(max_used=60, min_free=65), 5, 40),
        (Space(min_free=500), 5, 0),
    ],
)
def test_what_may_stay_of_a_hundred_bytes(space: Space, free: int, kept: int) -> None:
    """As BuildKit counts: never less than what is reserved."""
    assert space.keep(100, free) == kept
