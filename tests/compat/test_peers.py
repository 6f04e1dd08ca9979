"""The Docker programs that all tests use are the suite's own, of one version, whatever this machine has installed."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests import peers
from tests.cli.conftest import busybox_archive
from tests.e2e.dockerd import ALONE, dockerd

pytestmark = [pytest.mark.root, pytest.mark.slow]

VERSION = "26.1.5"


def test_the_commands_are_the_suites(tmp_path: Path) -> None:
    """A test that says `docker` or `docker-compose` gets those of the packages' root, and plugins where it wants."""
    assert shutil.which("docker") == peers.docker()
    assert shutil.which("docker-compose") == peers.compose()
    environment = {**os.environ, "HOME": str(tmp_path), "DOCKER_CONFIG": str(tmp_path)}
    told = subprocess.run(["docker", "--version"], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.startswith(f"Docker version {VERSION}")
    peers.plugins(tmp_path, "compose", "buildx")
    for plugin in ("compose", "buildx"):
        subprocess.run(["docker", plugin, "version"], env=environment, capture_output=True, check=True)


def test_dockerd_has_a_root_of_its_own(tmp_path: Path) -> None:
    """It is of the commands' version; a container has its own root under exec, and what is shared with it under -v."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/file").write_text("seen\n")
    base = Path(tempfile.mkdtemp(prefix="wherry-peer-"))
    before = Path("/proc/self/mountinfo").read_text()
    try:
        with dockerd(base, *ALONE, shared=(tmp_path,)) as peer:
            assert json.loads(peer.docker("version", "-f", "{{json .Server.Version}}")).startswith(VERSION)
            peer.docker("import", "-", "busybox", stdin=busybox_archive())
            words = ("-v", f"{tmp_path}/shared:/shared", "busybox", "/bin/busybox", "sleep", "1000")
            peer.docker("run", "-d", "--name", "box", *words)
            found = peer.docker("exec", "box", "/bin/busybox", "ls", "/", "/shared").decode().split()
            assert found == ["/:", *"bin dev etc proc root shared sys tmp".split(), "/shared:", "file"]
            assert not [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if line not in before]
            peer.docker("rm", "-f", "box")
    finally:
        shutil.rmtree(base, ignore_errors=True)
