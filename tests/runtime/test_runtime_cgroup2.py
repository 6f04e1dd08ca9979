"""A host with the unified hierarchy alone: seen from a mount namespace that has nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

import wherry

pytestmark = pytest.mark.root

_SCRIPT = """
import os, sys
sys.path[:0] = [{source!r}, {tests!r}]
from pathlib import Path
from tests.runtime.conftest import Box
from wherry.runtime.cgroups import open_cgroup
from wherry.errors import CommandNotFound

box = Box(Path({directory!r}))
cgroup = open_cgroup("/wherry-test-{name}")
assert set(cgroup.paths) == {{""}}, cgroup.paths
try:
    launched = box.start("sleep", "60", cgroup=cgroup)
    assert cgroup.pids() == [launched.pid]
    with open(f"/proc/{{launched.pid}}/cgroup") as lines:
        assert "0::/wherry-test-{name}\\n" in lines.read()
    look = "grep 0:: /proc/self/cgroup; mount | grep 'type cgroup'"
    code, output = box.join(launched, "sh", "-c", look, cgroup=cgroup)
    assert code == 0 and output.startswith("0::/\\n") and "cgroup2 (ro," in output, output
    # the container makes branches of its own, and the top may hold no process: exec goes where process 1 is
    os.mkdir(cgroup.paths[""] + "/inner")
    with open(cgroup.paths[""] + "/inner/cgroup.procs", "w") as file:
        file.write(str(launched.pid))
    assert box.join(launched, "true", cgroup=cgroup)[0] == 0
finally:
    box.close()
    cgroup.kill()
    cgroup.remove()
try:
    box.start("nope", cgroup=cgroup)
except CommandNotFound:
    assert not cgroup.exists()
else:
    raise AssertionError("it started")
print("fine")
"""


def test_process_one_is_born_in_its_cgroup(tmp_path: Path) -> None:
    """CLONE_INTO_CGROUP at start and exec, the container's view of it, and no branch left after a failure."""
    source = Path(wherry.__file__).parents[1]
    script = _SCRIPT.format(
        source=str(source), tests=str(Path(__file__).parents[2]), directory=str(tmp_path), name=tmp_path.name[:20]
    )
    result = subprocess.run(
        [
            *("unshare", "--mount", "sh", "-c"),
            'umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && exec "$@"',
            *("sh", sys.executable, "-c", script),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.stdout == "fine\n", result.stderr
