"""From the flags of run to the body of the create request."""

from pathlib import Path
from typing import Any

import pytest

from wherry.cli.commands.run import RUN
from wherry.cli.run_config import container_config


def _config(*words: str) -> dict[str, Any]:
    return container_config(RUN.parse("wherry run", words))


def test_defaults() -> None:
    """An image alone attaches stdout and stderr, and asks for nothing else."""
    config = _config("busybox")
    host = config["HostConfig"]
    assert (config["AttachStdin"], config["AttachStdout"], config["AttachStderr"]) == (False, True, True)
    assert (config["Cmd"], config["Entrypoint"], config["Env"], config["Labels"]) == (None, None, None, {})
    assert (host["NetworkMode"], host["RestartPolicy"]) == ("default", {"Name": "no", "MaximumRetryCount": 0})
    assert "Init" not in host


def test_command_and_streams() -> None:
    """-i opens stdin and closes it with the caller; --entrypoint= takes the image's away."""
    config = _config("-it", "--entrypoint=", "-a", "stdout", "busybox", "sh", "-c", "x")
    assert (config["OpenStdin"], config["StdinOnce"], config["Tty"]) == (True, True, True)
    assert (config["AttachStdin"], config["AttachStdout"], config["AttachStderr"]) == (True, True, False)
    assert (config["Cmd"], config["Entrypoint"]) == (["sh", "-c", "x"], [""])


def test_ports() -> None:
    """Ports have an address, a range, a protocol; the long form says the same."""
    config = _config(
        "-p80:8080",
        "-p",
        "127.0.0.1:90-91:90-91/udp",
        "-p",
        "[::1]::22",
        "-p",
        "published=1,target=2",
        "--expose",
        "7-8",
        "b",
    )
    assert config["HostConfig"]["PortBindings"] == {
        "8080/tcp": [{"HostIp": "", "HostPort": "80"}],
        "90/udp": [{"HostIp": "127.0.0.1", "HostPort": "90"}],
        "91/udp": [{"HostIp": "127.0.0.1", "HostPort": "91"}],
        "22/tcp": [{"HostIp": "::1", "HostPort": ""}],
        "2/tcp": [{"HostIp": "", "HostPort": "1"}],
    }
    assert set(config["ExposedPorts"]) == {"8080/tcp", "90/udp", "91/udp", "22/tcp", "2/tcp", "7/tcp", "8/tcp"}


def test_mounts() -> None:
    """Binds, anonymous volumes, tmpfs and --mount each have their place."""
    config = _config(
        "-v", "/a:/b:ro", "-v", "/anonymous", "--tmpfs", "/t:size=1m", "--mount", "type=bind,src=/s,dst=/d,ro", "b"
    )
    host = config["HostConfig"]
    assert host["Binds"] == ["/a:/b:ro"]
    assert config["Volumes"] == {"/anonymous": {}}
    assert host["Tmpfs"] == {"/t": "size=1m"}
    assert host["Mounts"] == [{"Type": "bind", "Source": "/s", "Target": "/d", "ReadOnly": True}]
    relative = _config("-v", "./x:/y", "b")["HostConfig"]["Binds"]
    assert relative == [f"{Path.cwd()}/x:/y"]


def test_limits_and_isolation() -> None:
    """Sizes, fractions and lists arrive as the API wants them."""
    host = _config(
        "-m", "64m", "--memory-swap=-1", "--cpus", "1.5", "--pids-limit", "5", "--ulimit", "nofile=1:2",
        "--cap-add", "NET_ADMIN", "--device", "/dev/null:/dev/x:r", "--security-opt", "no-new-privileges",
        "--security-opt", "systempaths=unconfined", "--sysctl", "net.a=1", "--init", "b",
    )["HostConfig"]  # fmt: skip
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"], host["PidsLimit"]) == (64 << 20, -1, 1500000000, 5)
    assert host["Ulimits"] == [{"Name": "nofile", "Hard": 2, "Soft": 1}]
    assert host["Devices"] == [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "r"}]
    assert (host["SecurityOpt"], host["MaskedPaths"], host["ReadonlyPaths"]) == (["no-new-privileges"], [], [])
    assert (host["CapAdd"], host["Sysctls"], host["Init"]) == (["NET_ADMIN"], {"net.a": "1"}, True)


def test_limits_of_devices() -> None:
    """Bytes with their units, operations and weights of single devices; GPUs by number, id and capability."""
    limits = (
        "--device-read-bps=/dev/null:1mb",
        "--device-write-iops=/dev/zero:7",
        "--blkio-weight-device=/dev/null:300",
    )
    host = _config(*limits, "--gpus", '"device=0,1",capabilities=utility', "--gpus=all", "busybox")["HostConfig"]
    assert host["BlkioDeviceReadBps"] == [{"Path": "/dev/null", "Rate": 1 << 20}]
    assert host["BlkioDeviceWriteIOps"] == [{"Path": "/dev/zero", "Rate": 7}]
    assert host["BlkioWeightDevice"] == [{"Path": "/dev/null", "Weight": 300}]
    some, every = host["DeviceRequests"]
    assert (some["DeviceIDs"], some["Count"], some["Capabilities"]) == (["0", "1"], 0, [["utility", "gpu"]])
    assert (every["DeviceIDs"], every["Count"], every["Capabilities"]) == (None, -1, [["gpu"]])


def test_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files come before flags; a name alone takes our value of it, and unsets where there is none."""
    monkeypatch.setenv("OURS", "1")
    monkeypatch.delenv("NOT_OURS", raising=False)
    file = tmp_path / "env"
    file.write_bytes(b"\xef\xbb\xbf# a comment\nA=b c\n  OURS\nNOT_OURS\n\nE=\n")
    config = _config("--env-file", str(file), "-e", "A=d", "-e", "OURS", "-e", "NOT_OURS", "b")
    assert config["Env"] == ["A=b c", "OURS=1", "E=", "A=d", "OURS=1", "NOT_OURS"]


def test_health() -> None:
    """Health flags make a check; --no-healthcheck takes the image's away."""
    health = _config("--health-cmd", "true", "--health-interval", "5s", "--health-retries=2", "b")["Healthcheck"]
    assert health == {"Test": ["CMD-SHELL", "true"], "Interval": 5 * 10**9, "Retries": 2}
    assert _config("--no-healthcheck", "b")["Healthcheck"] == {"Test": ["NONE"]}


def test_networks() -> None:
    """The first network is the container's mode; what belongs to an endpoint is told of it."""
    config = _config("--network", "name=mine,alias=a,ip=10.0.0.2", "--network-alias", "b", "--network", "other", "b")
    assert config["HostConfig"]["NetworkMode"] == "mine"
    assert config["NetworkingConfig"]["EndpointsConfig"] == {
        "mine": {"IPAMConfig": {"IPv4Address": "10.0.0.2"}, "Aliases": ["a", "b"]},
        "other": {},
    }
    assert _config("--net", "host", "b")["NetworkingConfig"]["EndpointsConfig"] == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rm", "--restart=always"), "conflicting options: cannot specify both --restart and --rm"),
        (("--pid", "x"), "--pid: invalid PID mode"),
        (("-p", "x"), "invalid containerPort: x"),
        (("-p", "1:2:3"), "invalid IP address: 1"),
        (("-v", ":x"), "invalid spec: :x: empty section between colons"),
        (("--device", "x"), "x is not an absolute path"),
        (("--mac-address", "x"), "x is not a valid mac address"),
        (("--network-alias", "x"), "network-scoped aliases are only supported for user-defined networks"),
    ],
)
def test_refusals(words: tuple[str, ...], message: str) -> None:
    """What cannot be meant is refused before the engine is asked."""
    with pytest.raises(ValueError, match=r".") as caught:
        _config(*words, "busybox")
    assert str(caught.value) == message
