"""The OCI runtime configuration: what is read, and how a mistake is named."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import InvalidSpec
from wherry.oci.runtime_config import parse, parse_process
from wherry.runtime.default_spec import default_spec


def test_default_configuration_is_read() -> None:
    """Every part of the configuration that `spec` writes arrives."""
    config = parse(default_spec())
    assert config.process is not None
    assert config.process.args == ("sh",)
    assert config.root_readonly
    assert dict(config.linux.namespaces) == dict.fromkeys(("pid", "network", "ipc", "uts", "mount", "cgroup"), "")
    assert [mount.destination for mount in config.mounts][:2] == ["/proc", "/dev"]
    assert "/proc/kcore" in config.linux.masked_paths


def _set(value: dict[str, Any], path: str, new: object) -> None:
    *parents, last = path.split(".")
    for name in parents:
        value = value.setdefault(name, {})
    value[last] = new


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("ociVersion", "2.0.0", "ociVersion '2.0.0' is not one of 1.x"),
        ("process.args", ["sh", 5], "process.args[1] must be a string"),
        ("process.args", "sh", "process.args must be an array"),
        ("process.args", ["a\0b"], "process.args[0] must not hold a NUL byte"),
        ("process.args", ["\ud800"], "process.args[0] must be Unicode text"),
        ("process.cwd", "relative", "process.cwd must be an absolute path: 'relative'"),
        ("process.terminal", "yes", "process.terminal must be true or false"),
        ("process.terminal", 1, "process.terminal must be true or false"),
        ("process.user.uid", True, "process.user.uid must be an integer"),
        ("process.user.uid", -1, "process.user.uid must lie between 0 and 4294967294: -1"),
        ("process.user.uid", 4294967295, "process.user.uid must lie between 0 and 4294967294: 4294967295"),
        ("process.user.additionalGids", [1, -1], "process.user.additionalGids[1] must be an integer between"),
        ("process.oomScoreAdj", 2000, "process.oomScoreAdj must lie between -1000 and 1000: 2000"),
        ("process.rlimits", [{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}], "process.rlimits[0].soft is over"),
        ("process.scheduler", {"policy": "SCHED_FIFO"}, "process.scheduler is not supported"),
        ("hostname", "x" * 65, "hostname is longer than 64 bytes"),
        ("mounts", [{"type": "proc"}], "mounts[0].destination is missing"),
        ("mounts", [{"destination": "/x", "uidMappings": [{}]}], "mounts[0].uidMappings: id-mapped mounts are not"),
        ("linux.namespaces", [{"type": "moon"}], "linux.namespaces[0].type: unknown namespace 'moon'"),
        ("linux.namespaces", [{"type": "pid"}, {"type": "pid"}], "linux.namespaces[1].type 'pid' is given twice"),
        ("linux.namespaces", [{"type": "user"}], "linux.uidMappings and gidMappings are needed"),
        ("linux.uidMappings", [{"size": 1}], "linux.uidMappings need a user namespace"),
        ("linux.timeOffsets", {"boottime": {"secs": 1}}, "linux.timeOffsets need a time namespace"),
        ("linux.maskedPaths", ["proc"], "linux.maskedPaths[0] must be an absolute path: 'proc'"),
        ("linux.rootfsPropagation", "sideways", "linux.rootfsPropagation: unknown propagation 'sideways'"),
        ("linux.devices", [{"path": "/dev/x", "type": "z"}], "linux.devices[0].type must be one of c, b, u, p: 'z'"),
        ("linux.sysctl", {"net.a": 1}, "linux.sysctl.net.a must be a string"),
        ("linux.intelRdt", {"closID": "x"}, "linux.intelRdt is not supported"),
        ("hooks.prestart", [{"path": "relative"}], "hooks.prestart[0].path must be an absolute path"),
    ],
)
def test_a_mistake_is_named(path: str, value: object, words: str) -> None:
    """The error begins with the field."""
    config = default_spec()
    _set(config, path, value)
    with pytest.raises(InvalidSpec) as caught:
        parse(config)
    assert str(caught.value).startswith(words)


def test_null_is_absent() -> None:
    """Writers in Go leave nulls where they mean nothing."""
    config = default_spec()
    config["hooks"] = None
    config["process"]["rlimits"] = None
    config["linux"]["sysctl"] = None
    assert parse(config).hooks["prestart"] == ()


def test_a_process_alone() -> None:
    """An exec carries a process object."""
    process = parse_process({"args": ["x"], "user": {"username": "a:b", "additionalGroups": ["c"]}})
    assert (process.user.username, process.user.additional_groups, process.cwd) == ("a:b", ("c",), "/")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_PATHS = sorted(
    f"{outer}.{inner}" if inner else outer
    for outer, value in default_spec().items()
    for inner in ([*value] if isinstance(value, dict) else [""])
)


@given(st.sampled_from(_PATHS), _JSON)
def test_any_value_is_read_or_refused(path: str, value: object) -> None:
    """Whatever a field holds, the answer is a configuration or `InvalidSpec`, never another error."""
    config = copy.deepcopy(default_spec())
    _set(config, path, value)
    try:
        parse(config)
    except InvalidSpec:
        return
