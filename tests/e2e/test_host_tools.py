"""What a person at the machine does: into the namespaces of a container, and prune everything."""

import pytest

from tests.e2e.harness import BIN, EngineProcess, until

pytestmark = pytest.mark.root


def test_nsenter_both_ways(engine: EngineProcess) -> None:
    """Our command, and util-linux's with the pid that inspect shows: the container's name, files, processes."""
    engine.docker("run", "-d", "--name", "ns1", "--hostname", "inside", "busybox", "sleep", "1000")
    pid = engine.docker("inspect", "-f", "{{.State.Pid}}", "ns1").out.strip()
    for words in (("nsenter", "-t", pid, "-a"), ("nsenter", "-t", pid, "-m", "-u", "-i", "-n", "-p")):
        assert engine.run(*words, "hostname").out == "inside\n"
    assert engine.wherry("nsenter", "ns1", "hostname").out == "inside\n"
    assert engine.wherry("nsenter", "ns1", "--", "sh", "-c", "ls /bin/busybox; exit 7", code=7).out == "/bin/busybox\n"
    shown = engine.wherry("container", "nsenter", "ns1", "--", "ps").out
    assert "sleep 1000" in shown
    assert len(shown.splitlines()) <= 4
    engine.docker("stop", "-t", "0", "ns1")
    assert "ns1 is not running" in engine.wherry("nsenter", "ns1", "true", code=1).err
    assert "No such container: nope" in engine.wherry("nsenter", "nope", "true", code=1).err


def test_attack_the_shell_of_an_image(engine: EngineProcess) -> None:
    """`nsenter` runs nothing of a foreign root that was not named."""
    engine.docker("run", "-d", "--name", "ns2", "busybox", "sleep", "1000")
    for words in (("ns2",), ("ns2", "--")):
        refused = engine.wherry("nsenter", *words, stdin=b"touch /ran\n", code=1).err
        assert "as this machine's root, unconfined: say which one" in refused
        assert "wherry exec -it ns2 sh" in refused
    assert engine.docker("exec", "ns2", "ls", "-d", "/ran", code=1).out == ""


@pytest.mark.parametrize("command", ["docker", "wherry"])
def test_prune_of_everything(own_engine: EngineProcess, command: str) -> None:
    """Stopped containers, unused networks, volumes without a name, unused images; what is used stays."""
    engine = own_engine
    run = engine.docker if command == "docker" else engine.wherry
    engine.docker("run", "-d", "--name", "used", "-v", "/data", "busybox", "sleep", "1000")
    engine.docker("create", "--name", "kept", "--label", "keep=1", "busybox")
    engine.docker("create", "--name", "gone", "-v", "/data", "busybox")
    engine.docker("network", "create", "unused")
    engine.docker("tag", "busybox", "other")
    said = run("system", "prune", "-f", "--filter", "label!=keep").out
    assert "Deleted Containers:" in said
    assert "Deleted Networks:\nunused" in said
    assert sorted(engine.docker("ps", "-a", "--format", "{{.Names}}").out.split()) == ["kept", "used"]
    engine.docker("rm", "kept")
    assert len(engine.docker("volume", "ls", "-q").out.split()) == 2
    assert "Total reclaimed space" in run("system", "prune", "-af", "--volumes").out
    until(lambda: len(engine.docker("volume", "ls", "-q").out.split()) == 1, "the volume in use stays")
    assert engine.docker("exec", "used", "ls", "-d", "/data").out == "/data\n"
    assert "busybox" in engine.docker("images", "--format", "{{.Repository}}").out
    refused = run("system", "prune", "-f", "--volumes", "--filter", "until=1h", code=1)
    assert 'The "until" filter is not supported with "--volumes"' in refused.err
    if command == "wherry":
        asked = engine.run("sh", "-c", f"echo n | {BIN}/wherry system prune -a").out
        assert "all images without at least one container associated to them" in asked
