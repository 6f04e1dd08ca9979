"""wherryd in a chroot, as people have who unpack a Debian and go in: what it runs is at home in its own root."""

from collections.abc import Iterator

import pytest

from tests.e2e.harness import WHERRYD, EngineProcess, running, until

pytestmark = pytest.mark.root

_MOUNTED = 'mount --rbind / "$J"'
# a directory of the host that is no mount point, with what it needs mounted below
_PLAIN = """for d in /*; do
  if [ -L "$d" ]; then cp -Pf "$d" "$J$d"; elif [ -d "$d" ]; then mkdir -p "$J$d"; mount --rbind "$d" "$J$d"; fi
done"""


@pytest.fixture(params=[_MOUNTED, _PLAIN], ids=["a mount point", "a directory"])
def engine(request: pytest.FixtureRequest) -> Iterator[EngineProcess]:
    """Give an engine in a chroot, whose mounts nobody else sees."""
    made = EngineProcess()
    jail = made.base / "jail"
    jail.mkdir()
    script = f'set -e; J=$1; shift; {request.param}; exec chroot "$J" "$@"'
    made.program = ("unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", str(jail), WHERRYD)
    with running(made):
        yield made


def test_exec_and_health_checks_are_in_the_container(engine: EngineProcess) -> None:
    """Exec, health checks, copies and volumes see the container's root, and so after a restart of wherryd."""
    health = ("--health-cmd", "test -e /inside", "--health-interval", "1s", "--health-start-interval", "100ms")
    words = ("run", "-d", "--name", "box", "-v", "data:/data", *health, "--health-start-period", "20s", "busybox")
    engine.docker(*words, "sh", "-c", "echo here >/inside; echo kept >/data/file; exec sleep 1000")
    until(lambda: engine.docker("exec", "box", "cat", "/inside", check=False).out == "here\n", "the file is there")
    assert engine.docker("exec", "box", "cat", "/proc/1/cmdline").out == "sleep\x001000\x00"
    status = ("inspect", "-f", "{{.State.Health.Status}}", "box")
    until(lambda: engine.docker(*status).out == "healthy\n", "the health check finds the file")
    (engine.base / "given").write_text("given\n")
    engine.docker("cp", str(engine.base / "given"), "box:/given")
    engine.kill()
    engine.start()
    assert engine.docker("exec", "box", "cat", "/inside", "/given").out == "here\ngiven\n"
    assert engine.docker("run", "--rm", "-v", "data:/data", "busybox", "cat", "/data/file").out == "kept\n"
    engine.docker("rm", "-f", "box")
    engine.docker("volume", "rm", "data")
