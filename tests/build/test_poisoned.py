"""What one build leaves in the cache for another: contexts and imported caches that try to plant a layer there."""

import io
import tarfile

import pytest

from tests.build.conftest import CLASSIC, Context

pytestmark = pytest.mark.root


# -- a build context

HONEST = "echo honest; exit 0 # "


class Members:
    """An archive, member by member."""

    def __init__(self) -> None:
        self._out = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._out, mode="w", format=tarfile.PAX_FORMAT)

    def file(self, name: str, data: str) -> "Members":
        """Add a plain file."""
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o755
        self._tar.addfile(info, io.BytesIO(data.encode()))
        return self

    def sparse(self, name: str, data: str) -> "Members":
        """Add a file in pax's sparse form 1.0, with all of its data."""
        body = f"1\n0\n{len(data)}\n".encode().ljust(512, b"\0") + data.encode()
        info = tarfile.TarInfo("GNUSparseFile.0/x")
        info.size, info.mode = len(body), 0o755
        info.pax_headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": name,
            "GNU.sparse.realsize": str(len(data)),
        }
        self._tar.addfile(info, io.BytesIO(body))
        return self

    def other(self, kind: bytes, name: str, link: str = "") -> "Members":
        """Add what has no data."""
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.mode = kind, link, 0o755
        self._tar.addfile(info)
        return self

    def bytes(self) -> bytes:
        """All of it."""
        self._tar.close()
        return self._out.getvalue()


def planted(way: str, honest: str, evil: str) -> bytes:
    """A context in which `d/run.sh` has the honest bytes first, and holds others in the end."""
    members = Members().file("Dockerfile", "FROM busybox\nCOPY d/run.sh /run.sh\n")
    if way == "sparse":
        members.file("d/run.sh", honest).sparse("d/run.sh", evil)
    elif way == "empty":
        members.file("d/run.sh", honest).file("d/run.sh", "")
    elif way == "hard link":
        members.file("x", honest).sparse("x", evil).other(tarfile.LNKTYPE, "d/run.sh", "x")
    else:
        # several go at once: the numbers of some are given to what comes next
        for number in range(8):
            members.file(f"d/old/{number}", honest)
        members.other(tarfile.SYMTYPE, "d/old", ".")
        members.sparse("d/old/run.sh" if way == "link" else "d/run.sh", evil)
    return members.bytes()


@pytest.mark.parametrize("way", ["sparse", "empty", "hard link", "directory", "link"])
def test_a_context_that_replaces_a_file_poisons_no_other_build(context: Context, way: str) -> None:
    """The key of a step is what its files hold in the end, not what an entry held that was replaced."""
    honest, evil = HONEST + way, "echo evil"

    def made(archive: bytes) -> str:
        argv = ("docker", "build", "-q", "-")
        return context.engine.run(*argv, env=CLASSIC, stdin=archive).out.strip()

    attacker = made(planted(way, honest, evil))
    assert context.run(attacker, "cat", "/run.sh") == ("" if way == "empty" else evil)
    victim = made(_plain(honest))
    assert context.run(victim, "cat", "/run.sh") == honest


def _plain(content: str) -> bytes:
    return Members().file("Dockerfile", "FROM busybox\nCOPY d/run.sh /run.sh\n").file("d/run.sh", content).bytes()
