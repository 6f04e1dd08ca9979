"""`update` and `stats`: what the kernel was told and what it counts are what is shown."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.cgroups import controllers, needs
from tests.e2e.harness import EngineProcess, until

pytestmark = pytest.mark.root


def cgroup_file(engine: EngineProcess, name: str, v1: str, v2: str) -> str:
    """The text of a file of the container's cgroup, in whichever layout the host has."""
    id_ = engine.docker("inspect", "-f", "{{.Id}}", name).out.strip()
    for directory in engine.cgroups():
        for file in (v1, v2):
            path = Path(directory) / file
            if id_ in directory and path.exists():
                return path.read_text().strip()
    raise AssertionError(f"no {v1} nor {v2}")


def sample(engine: EngineProcess, name: str, query: str = "stream=0&one-shot=1") -> dict[str, Any]:
    """One answer of the API."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(engine.roots.socket)
        sock.sendall(f"GET /containers/{name}/stats?{query} HTTP/1.0\r\n\r\n".encode())
        data = b""
        while more := sock.recv(65536):
            data += more
    found: dict[str, Any] = json.loads(data.partition(b"\r\n\r\n")[2])
    return found


@needs("memory", "pids")
def test_stats_are_those_of_the_cgroup(engine: EngineProcess) -> None:
    """Memory and pids agree with the kernel's files."""
    engine.docker(
        "run", "-d", "--name", "s1", "-m", "64m", "--pids-limit", "50", "busybox", "sh", "-c", "sleep 1000 & sleep 1000"
    )
    until(lambda: sample(engine, "s1")["pids_stats"].get("current") == 2, "two processes")
    shown = sample(engine, "s1")
    assert shown["memory_stats"]["limit"] == 64 << 20
    assert shown["pids_stats"]["limit"] == 50
    usage = int(cgroup_file(engine, "s1", "memory.usage_in_bytes", "memory.current"))
    assert abs(shown["memory_stats"]["usage"] - usage) < 1 << 20


def test_stats_count_packets_and_processor_time(engine: EngineProcess) -> None:
    """What the container sends and computes is counted."""
    engine.docker("run", "-d", "--name", "s1", "busybox", "sleep", "1000")
    shown = sample(engine, "s1")
    assert shown["name"] == "/s1"
    assert shown["preread"].startswith("0001")
    assert set(shown["networks"]["eth0"]) == {
        f"{way}_{what}" for way in ("rx", "tx") for what in ("bytes", "packets", "errors", "dropped")
    }
    before = shown["networks"]["eth0"]["tx_bytes"]
    engine.docker(
        "exec", "s1", "sh", "-c", "ping -c 2 -i 0.1 -W 1 $(ip route | grep default | cut -d' ' -f3)", check=False
    )
    until(lambda: sample(engine, "s1")["networks"]["eth0"]["tx_bytes"] > before, "packets are counted")
    spent = sample(engine, "s1")["cpu_stats"]["cpu_usage"]["total_usage"]
    engine.docker("exec", "s1", "sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done")
    now = sample(engine, "s1")["cpu_stats"]
    assert now["cpu_usage"]["total_usage"] > spent + 10_000_000
    assert now["system_cpu_usage"] > 0


def test_what_no_controller_counts_is_absent(engine: EngineProcess) -> None:
    """As dockerd does: without the controller there is neither a use nor a limit, which a zero would claim."""
    engine.docker("run", "-d", "--name", "s1", "busybox", "sleep", "1000")
    shown = sample(engine, "s1")
    assert ("usage" in shown["memory_stats"]) == ("limit" in shown["memory_stats"]) == ("memory" in controllers())
    assert ("current" in shown["pids_stats"]) == ("pids" in controllers())
    if "pids" not in controllers():
        assert shown["pids_stats"] == {}


def test_stats_of_many_states(engine: EngineProcess) -> None:
    """Those that do not run use nothing; names that are none are an error; both commands show the same."""
    engine.docker("run", "-d", "--name", "s1", "busybox", "sleep", "1000")
    engine.docker("run", "-d", "--name", "s2", "--network", "host", "busybox", "sleep", "1000")
    engine.docker("create", "--name", "s3", "busybox", "sleep", "1000")
    assert "networks" not in sample(engine, "s2")
    assert sample(engine, "s3")["memory_stats"] == {}
    # without the controller nobody counts processes
    row, one = "{{.Name}} {{.PIDs}}", int("pids" in controllers())
    for command in (engine.docker, engine.wherry):
        listed = command("stats", "--no-stream", "--format", row)
        assert sorted(listed.out.split("\n")) == ["", f"s1 {one}", f"s2 {one}"]
        assert "s3 0" in command("stats", "-a", "--no-stream", "--format", row).out
        assert "No such container: nope" in command("stats", "--no-stream", "nope", code=1).err
    streamed = engine.run(
        "timeout", "2.5", "curl", "-sN", "--unix-socket", engine.roots.socket, "http://x/containers/s1/stats", code=124
    )
    lines = [json.loads(line) for line in streamed.out.splitlines()]
    assert lines[0]["precpu_stats"]["system_cpu_usage"] > 0
    assert lines[0]["read"] > lines[0]["preread"]


@needs("cpu", "memory", "pids")
def test_update_of_what_runs_and_of_what_does_not(engine: EngineProcess) -> None:
    """The kernel's limits, what inspect says, and what the next start gives are the same."""
    engine.docker("run", "-d", "--name", "u1", "-m", "64m", "busybox", "sleep", "1000")
    engine.docker("update", "-m", "128m", "--memory-swap", "256m", "--cpus", "0.5", "--pids-limit", "77", "u1")
    limits = "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}"
    for _ in range(2):
        assert cgroup_file(engine, "u1", "memory.limit_in_bytes", "memory.max") == str(128 << 20)
        assert cgroup_file(engine, "u1", "pids.max", "pids.max") == "77"
        assert cgroup_file(engine, "u1", "cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"
        assert engine.docker("inspect", "-f", limits, "u1").out == f"{128 << 20} 500000000 77\n"
        engine.docker("restart", "-t", "0", "u1")
    engine.docker("stop", "-t", "0", "u1")
    engine.wherry("update", "--pids-limit", "-1", "--cpu-shares", "512", "u1")
    engine.docker("start", "u1")
    assert cgroup_file(engine, "u1", "pids.max", "pids.max") == "max"


@needs("cpu", "cpuset", "memory")
def test_an_update_that_fails_changes_nothing(engine: EngineProcess) -> None:
    """In dockerd's words; the record, the kernel and the policy stay."""
    engine.docker("run", "-d", "--name", "u1", "-m", "64m", "--cpus", "1", "busybox", "sleep", "1000")
    before = engine.docker("inspect", "-f", "{{json .HostConfig}}", "u1").out
    for flags, words in (
        (("-m", "512m"), "Memory limit should be smaller than already set memoryswap limit"),
        (("-m", "1m"), "Minimum memory limit allowed is 6MB"),
        (("--memory-swap", "10m"), "Minimum memoryswap limit should be larger than memory limit"),
        (("--cpu-quota", "5000"), "CPU Quota cannot be updated as NanoCPUs has already been set"),
        (("--cpuset-cpus", "999"), "Requested CPUs are not available"),
        (("--restart", "sometimes"), "unknown policy 'sometimes'"),
        (("--restart", "on-unhealthy"), "needs a health check"),
        (("--pids-limit", "9", "--memory-swap", "1k"), "Minimum memoryswap limit"),
    ):
        assert words in engine.docker("update", *flags, "u1", code=1).err
    assert engine.docker("inspect", "-f", "{{json .HostConfig}}", "u1").out == before
    assert cgroup_file(engine, "u1", "memory.limit_in_bytes", "memory.max") == str(64 << 20)
    engine.docker("run", "-d", "--rm", "--name", "u2", "busybox", "sleep", "1000")
    assert "AutoRemove is enabled" in engine.docker("update", "--restart", "always", "u2", code=1).err


def test_a_policy_given_later_is_followed(own_engine: EngineProcess) -> None:
    """What runs when it gets a policy is wanted; an engine that comes later knows."""
    engine = own_engine
    engine.docker("run", "-d", "--name", "u1", "busybox", "sleep", "1000")
    engine.docker("create", "--name", "u2", "busybox", "sleep", "1000")
    engine.docker("update", "--restart", "unless-stopped", "u1", "u2")
    engine.kill()
    engine.start()
    pid = int(engine.docker("inspect", "-f", "{{.State.Pid}}", "u1").out)
    engine.run("kill", "-9", str(pid))
    until(lambda: engine.docker("inspect", "-f", "{{.RestartCount}}", "u1").out == "1\n", "it is started again")
    until(lambda: engine.docker("inspect", "-f", "{{.State.Pid}}", "u1").out not in ("0\n", f"{pid}\n"), "it runs")
    engine.docker("update", "--restart", "no", "u1")
    engine.run("kill", "-9", engine.docker("inspect", "-f", "{{.State.Pid}}", "u1").out.strip())
    until(lambda: engine.docker("inspect", "-f", "{{.State.Status}}", "u1").out == "exited\n", "it stays ended")
    assert engine.docker("inspect", "-f", "{{.State.Status}}", "u2").out == "created\n"
    engine.assert_no_traceback()
