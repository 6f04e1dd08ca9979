"""Finding the hierarchies in mountinfo, and naming branches."""

import pytest

from wherry.errors import NotSupported
from wherry.runtime.cgroups import open_cgroup
from wherry.runtime.cgroups.features import cpu_list
from wherry.runtime.cgroups.hierarchies import Hierarchies, parse_mountinfo, parse_shown
from wherry.runtime.cgroups.hybrid import HybridCgroup
from wherry.runtime.cgroups.v1 import V1Cgroup
from wherry.runtime.cgroups.v2 import V2Cgroup

TMPFS = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
CPU = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
SYSTEMD = "40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n"
UNIFIED = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n"
PURE = "41 31 0:38 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_co_mounted_controllers_share_a_directory() -> None:
    """Both names lead to one mount point; a named hierarchy counts too."""
    v1, v2 = parse_mountinfo(TMPFS + CPU + SYSTEMD)
    assert v1["cpu"] == v1["cpuacct"] == "/sys/fs/cgroup/cpu,cpuacct"
    assert v1["name=systemd"] == "/sys/fs/cgroup/systemd"
    assert v2 is None


def test_a_later_mount_hides_what_was_below() -> None:
    """cgroup2 mounted over the v1 tree leaves v2 alone."""
    assert parse_mountinfo(TMPFS + CPU + UNIFIED + PURE) == ({}, "/sys/fs/cgroup")


def test_a_writable_mount_wins_over_a_read_only_one() -> None:
    """A container's read-only view of a hierarchy is not where to write."""
    text = PURE.replace(" /sys/fs/cgroup rw", " /inside ro") + PURE
    assert parse_mountinfo(text)[1] == "/sys/fs/cgroup"


def test_escaped_mount_points() -> None:
    """A blank is written as an octal escape."""
    assert parse_mountinfo(PURE.replace("/sys/fs/cgroup", "/a\\040b"))[1] == "/a b"


def test_a_process_is_found_where_a_part_of_a_tree_is_mounted() -> None:
    """In the host's cgroup namespace a container has paths from the tree's top, and mounts of its own part."""
    text = CPU.replace(" / /sys", " /box /sys") + UNIFIED
    hierarchies = Hierarchies(*parse_mountinfo(TMPFS + text), frozenset(), parse_shown(TMPFS + text))
    cpu, unified = "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/unified"
    assert hierarchies.directories("2:cpu,cpuacct:/box/a\n0::/b\n1:name=x:/c\n") == [f"{cpu}/a", f"{unified}/b"]
    assert hierarchies.directories("2:cpu,cpuacct:/box\n0::/\n") == [cpu, unified]
    # one that is elsewhere in the tree is not to be seen here
    assert hierarchies.directories("2:cpu,cpuacct:/boxes/a\n") == []


def test_a_mount_over_a_part_of_a_tree_shows_the_whole() -> None:
    """The last mount at a place counts."""
    assert parse_shown(PURE.replace(" / /sys", " /box /sys") + PURE) == {}


@pytest.mark.parametrize(
    ("v1", "v2", "kind"),
    [
        ({"memory": "/m"}, None, V1Cgroup),
        ({"memory": "/m"}, "/u", HybridCgroup),
        ({"name=systemd": "/s"}, "/u", V2Cgroup),
        ({}, "/u", V2Cgroup),
    ],
)
def test_the_kind_follows_from_what_is_mounted(v1: dict[str, str], v2: str | None, kind: type) -> None:
    """A named hierarchy alone does not make a host v1."""
    assert type(open_cgroup("/a/b", Hierarchies(v1, v2))) is kind


def test_no_hierarchy_is_an_error() -> None:
    """Never no confinement without a word."""
    with pytest.raises(NotSupported, match="no control group hierarchy"):
        open_cgroup("/a", Hierarchies({}, None))


@pytest.mark.parametrize("path", ["", "/", "a/b", "/a/../b", "//"])
def test_paths_that_are_refused(path: str) -> None:
    """The root of a hierarchy, and whatever leaves the branch, are not ours."""
    with pytest.raises(ValueError, match="not a cgroup path"):
        open_cgroup(path, Hierarchies({"memory": "/m"}, None))


@pytest.mark.parametrize(("text", "expected"), [("0", {0}), ("0-2,7", {0, 1, 2, 7}), ("1,1", {1})])
def test_processor_lists(text: str, expected: set[int]) -> None:
    """Numbers and ranges."""
    assert cpu_list(text) == expected


@pytest.mark.parametrize("text", ["", "a", "3-1", "0,", "-1", "0-99999999999", "0-", "\u0661"])
def test_texts_that_are_no_processor_list(text: str) -> None:
    """Malformed or absurd."""
    with pytest.raises(ValueError, match="not a list of numbers"):
        cpu_list(text)
