"""Archives cross between this engine and the machine's dockerd, in both directions, with the same ids."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images import image_archives as make
from tests.images.conftest import Store, chunks

pytestmark = [pytest.mark.root, pytest.mark.slow]

DOCKERD = "/usr/sbin/dockerd"
ROOT = make.tar({"bin/": b"", "bin/sh": b"#!shell" * 100, "bin/ln": b"x"})


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """A dockerd without network in a network namespace of its own; gives the command that speaks to it."""
    command = shutil.which("docker")
    if not os.path.exists(DOCKERD) or command is None:
        pytest.skip("needs dockerd and docker (package docker.io)")
    base = tmp_path_factory.mktemp("peer")
    socket = f"unix://{base}/s"
    with open(f"{base}/log", "wb") as log:
        process = subprocess.Popen(
            [
                *("unshare", "-n", DOCKERD, "--bridge", "none", "--iptables=false", "--ip6tables=false"),
                *("--data-root", f"{base}/d", "--exec-root", f"{base}/x", "-H", socket, "--pidfile", f"{base}/p"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 30
        while subprocess.run([command, "-H", socket, "version"], capture_output=True, check=False).returncode != 0:
            assert process.poll() is None, Path(f"{base}/log").read_text()
            assert time.monotonic() < deadline, Path(f"{base}/log").read_text()
            time.sleep(0.05)
        yield [command, "-H", socket]
    finally:
        process.terminate()
        process.wait(timeout=30)


def run(command: list[str], *arguments: str, data: bytes | None = None) -> bytes:
    """Run docker and return what it printed."""
    return subprocess.run([*command, *arguments], input=data, capture_output=True, check=True, timeout=60).stdout


def test_from_docker(docker: list[str], store: Store) -> None:
    """What `docker save` writes is loaded with Docker's ids and names."""
    run(docker, "import", "-c", 'CMD ["sh"]', "-", "one:1", data=ROOT)
    run(docker, "import", "-", "x/two:2", data=make.tar({"other": b"x"}))
    run(docker, "tag", "one:1", "one:latest")
    store.load(run(docker, "save", "one", "x/two:2"))
    assert store.names() == ["one:1", "one:latest", "x/two:2"]
    for name in store.names():
        found = json.loads(run(docker, "inspect", name))[0]
        assert store.images.resolve(name).id == found["Id"]
        assert store.inspect(name)["RootFS"] == found["RootFS"]
        ours = store.inspect(name)["Config"]
        assert {key: value for key, value in found["Config"].items() if value} == {
            key: value for key, value in ours.items() if value
        }
    store.check()


def test_to_docker(docker: list[str], store: Store) -> None:
    """What we save is loaded by Docker with our ids and names."""
    store.run(store.images.import_(chunks(ROOT), "ours", "1", ['CMD ["sh"]', "ENV A=b"], message="hello"))
    store.run(store.images.tag("ours:1", "x/ours:2"))
    said = run(docker, "load", data=store.run(store.save("ours:1", "x/ours:2"))).decode()
    assert said.splitlines() == ["Loaded image: ours:1", "Loaded image: x/ours:2"]
    found = json.loads(run(docker, "inspect", "ours:1"))[0]
    assert found["Id"] == store.images.resolve("ours:1").id
    assert found["Config"]["Env"] == ["A=b"]
    assert store.load(run(docker, "save", "ours:1")) == [found["Id"]]
    store.check()
