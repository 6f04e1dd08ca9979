"""A bridge with as many ports as the kernel allows says so, by its network's name."""

import os
import subprocess
from collections.abc import Iterator

import pytest
from tests.e2e.harness import WHERRYD, EngineProcess, running, within

from wherry.network import sandbox

pytestmark = pytest.mark.root

PORTS = 1023


@pytest.fixture(scope="module")
def namespace() -> Iterator[int]:
    """Give a network namespace: all its links go at once with it."""
    fd = sandbox.create_namespace()
    yield fd
    os.close(fd)


def fill(namespace: int, bridge: str) -> None:
    """Give a bridge all the ports that it may have."""
    pairs = range((PORTS + 1) // 2)
    lines = [f"link add a{number} type veth peer name b{number}" for number in pairs]
    ends = [f"{end}{number}" for number in pairs for end in "ab"]
    lines += [f"link set {name} master {bridge}" for name in ends[:PORTS]]
    subprocess.run(within(namespace, "ip", "-batch", "-"), input="\n".join(lines), check=True, text=True)


def test_a_full_bridge_is_named(namespace: int) -> None:
    """A start and a connection are refused in words, nothing of them is left, and another network takes them."""
    with running(EngineProcess(program=within(namespace, WHERRYD))) as engine:
        engine.docker("network", "create", "roomy")
        fill(namespace, engine.roots.bridge)
        words = f'bridge {engine.roots.bridge} is full: network "bridge" has {PORTS} ports'
        done = engine.docker("run", "--name", "web", "busybox", "true", check=False)
        assert done.code == 125, done
        assert words in done.err, done
        assert not os.listdir(engine.roots.sandboxes)
        engine.docker("rm", "web")
        engine.docker("run", "-d", "--name", "web", "--network", "roomy", "busybox", "sleep", "1000")
        done = engine.docker("network", "connect", "bridge", "web", check=False)
        assert words in done.err, done
        assert engine.docker("exec", "web", "ls", "/sys/class/net").out.split() == ["eth0", "lo"]
        engine.docker("rm", "-f", "web")
