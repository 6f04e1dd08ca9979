"""Hostile builds (attacks 40, 41, 43, 45): mounts, privileges, repositories, contexts, downloads that want out."""

import http.server
import io
import os
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.build.conftest import CLASSIC, Context
from tests.build.test_wherry import WHERRY, build
from tests.e2e.harness import Done, EngineProcess
from tests.races import race, swapping

pytestmark = pytest.mark.root
CANARY = "host-canary-5b1e"


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """Give a directory of the host that builds try to read and to change; nothing of it may be changed."""
    place = tmp_path / "outside"
    place.mkdir()
    (place / "secret").write_text(CANARY)
    yield place
    assert sorted(os.listdir(place)) == ["secret"]
    assert (place / "secret").read_text() == CANARY


# -- 40: mounts of RUN


def test_a_bind_mount_source_that_is_a_link_stays_in_its_stage(context: Context, outside: Path) -> None:
    """CVE-2024-1753, CVE-2024-23652: an absolute link, one with `..`, a directory behind a link."""
    control = context.docker(
        f"FROM busybox AS a\nRUN mkdir -p {outside} && echo mine > {outside}/secret && ln -s {outside} /l\n"
        "FROM busybox\nRUN --mount=from=a,source=/l,target=/m,rw cat /m/secret; touch /m/new; ls /m\n"
    )
    assert "mine\nnew\nsecret\n" in control.out  # a link is followed, in its stage
    for link, source in ((outside, "/l"), (f"../../../../..{outside}", "/l"), (outside.parent, f"/l/{outside.name}")):
        done = context.docker(
            f"FROM busybox AS a\nRUN ln -s {link} /l\n"
            f"FROM busybox\nRUN --mount=from=a,source={source},target=/m,rw cat /m/secret; touch /m/new; true\n",
            code=None,
        )
        assert "openat2: no such file or directory" in done.err
        assert CANARY not in done.out + done.err


def test_a_cache_mount_source_that_is_a_link_stays_in_its_cache(context: Context, outside: Path) -> None:
    """CVE-2024-9675: a cache that an earlier build filled with links."""
    filled = (
        f"FROM busybox\nRUN --mount=type=cache,id=evil,target=/c ln -sfn {outside} /c/l && ln -sfn / /c/root "
        "&& mkdir -p /c/real && echo mine > /c/real/f && echo mine > /c/f\n"
    )
    context.docker(filled)
    control = context.docker("FROM busybox\nRUN --mount=type=cache,id=evil,target=/c,source=real cat /c/f\n")
    assert "mine\n" in control.out
    for source in ("l", "/l", f"root{outside}", "../../../../../.."):
        done = context.docker(
            f"FROM busybox\nRUN --mount=type=cache,id=evil,target=/c,source={source} "
            "cat /c/secret /c/etc/hostname; touch /c/new; true\n",
        )
        assert CANARY not in done.out + done.err


def test_mount_points_behind_links_are_made_and_taken_away_inside(context: Context, outside: Path) -> None:
    """CVE-2024-23652: what is cleaned up after a step is never the host's."""
    made = context.docker(
        f"FROM busybox\nRUN ln -s {outside} /l && mkdir /real && ln -s /real /k\n"
        "RUN --mount=type=cache,id=points,target=/k/made touch /k/made/x && ls /real/made\n"
        f"RUN --mount=type=tmpfs,target=/l/secret --mount=type=tmpfs,target=/l/dir cut -d ' ' -f 2 /proc/mounts\n",
        "-t",
        "points",
    )
    assert f"\n{outside}/secret\n{outside}/dir\n" in made.out  # below the same name in the step's own root
    assert "\nx\n" in made.out
    # a mount point behind a link may stay, in the image; that of the cache's content does not
    assert context.run("points", "find", "/real", str(outside), "-type", "f", "-size", "+0") == ""


def test_builds_that_swap_a_directory_for_a_link_win_no_race(context: Context, outside: Path) -> None:
    """CVE-2024-23651: the place of a mount lies in a shared cache, in which somebody exchanges it for a link."""
    context.docker(
        "FROM busybox\nRUN --mount=type=cache,id=race,target=/c rm -rf /c/flip /c/evil && mkdir /c/flip && "
        f"ln -s {outside} /c/evil\n",
        "--no-cache",
    )
    (cache,) = [path.parent for path in Path(context.engine.roots.data).glob("**/fs/evil") if path.is_symlink()]
    victim = (
        "FROM busybox\nRUN --mount=type=cache,id=race,target=/c --mount=type=tmpfs,target=/c/flip/secret "
        "cut -d ' ' -f 2 /proc/mounts | grep secret; cat /c/flip/secret /c/evil/secret; touch /c/flip/secret/x; true\n"
    )

    def attempt() -> Iterator[str]:
        done = context.docker(victim, "--no-cache", code=None)
        assert CANARY not in done.out + done.err
        lines = done.out.splitlines()
        if "/c/flip/secret" in lines or "/c/evil/secret" in lines:
            yield "directory"
        if f"{outside}/secret" in lines:
            yield "link"

    assert set(attempt()) == {"directory"}  # without a racer
    with swapping(cache / "flip", cache / "evil"):
        race(attempt, ("directory", "link"), rounds=6)


def test_a_root_with_a_proc_of_its_own(context: Context) -> None:
    """A worker that replaces a file reads nothing of its root's `/proc`, which may be a file or a link without end."""
    context.write("f", "mine")
    context.write("g", "new")
    os.makedirs(context.directory / "links/self")
    os.symlink("fd", context.directory / "links/self/fd")  # a link to itself
    for proc in ("f /proc", "links /proc"):
        context.docker(f"FROM scratch\nCOPY f /f\nCOPY {proc}\nCOPY g /f\n", "-t", "own")
        context.docker("FROM busybox\nCOPY --from=own /f /f\n", "-t", "seen")
        assert context.run("seen", "cat", "/f") == "new"


def test_copies_into_links_stay_in_the_root(context: Context, outside: Path) -> None:
    """CVE-2024-9407 and its kin: a destination, a WORKDIR and an archive's directory that are links to the host."""
    context.write("f", "mine")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("l/unpacked"), io.BytesIO())
    context.write("a.tar", archive.getvalue())
    context.docker(
        f"FROM busybox\nRUN ln -s {outside} /l && ln -s {outside}/made /n && ln -s ../../../..{outside} /r\n"
        "COPY f /l/copied\nCOPY f /l/secret\nCOPY f /r/up\nADD a.tar /\nWORKDIR /l/work\nCOPY f /n\n"
        f"RUN cat {outside}/secret > /seen\n",
        "-t",
        "links",
    )
    assert context.run("links", "cat", "/seen") == "mine"


# -- 41: privileges


@pytest.mark.parametrize("flag", ["--security=insecure", "--network=host"])
def test_a_dockerfile_gives_itself_no_privilege(context: Context, flag: str) -> None:
    """CVE-2024-23653: an entitlement is the caller's to give."""
    assert "\npwned" in context.docker("FROM busybox\nRUN echo pwned\n", "--no-cache").out
    done = context.docker(f"FROM busybox\nRUN {flag} echo pwned\n", code=None)
    assert done.code != 0
    assert "is not allowed" in done.err
    assert "\npwned" not in done.out


def test_a_syntax_image_is_never_run(context: Context) -> None:
    """CVE-2026-33747: `# syntax=` names a program that would read the Dockerfile; none is fetched or run here."""
    context.docker('FROM busybox\nCMD ["echo", "pwned"]\n', "-t", "evil/frontend:1")
    done = context.docker("# syntax=evil/frontend:1\nFROM busybox\nRUN echo plain\n")
    assert "plain" in done.out
    assert "pwned" not in done.out
    context.docker("# syntax=no.such.host/x/y:z\nFROM busybox\nRUN echo plain\n")


# -- 43: repositories


@contextmanager
def serving(top: Path) -> Iterator[str]:
    """Serve the repositories below a directory; gives their address."""
    port = _free()
    argv = (
        "git",
        "daemon",
        "--reuseaddr",
        "--export-all",
        "--listen=127.0.0.1",
        f"--port={port}",
        f"--base-path={top}",
    )
    process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    try:
        _answers(port)
        yield f"git://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _free() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> None:
    import socket

    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _git(place: Path, *words: str) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
    who = ("-c", "user.name=x", "-c", "user.email=x@y", "-c", "protocol.file.allow=always")
    subprocess.run(["git", *who, *words], cwd=place, env=env, check=True, capture_output=True)


def commit_all(repository: Path, tag: str = "") -> None:
    """Commit what a directory holds to its branch `main`, and perhaps tag it."""
    if not (repository / ".git").exists():
        _git(repository, "init", "-q", "-b", "main")
    _git(repository, "add", "-A")
    _git(repository, "commit", "-qm", "x")
    if tag:
        _git(repository, "tag", tag)


def _remote(engine: EngineProcess, address: str, code: int | None = 0) -> Done:
    """Have the engine fetch a repository; the docker command's classic builder would fetch it itself."""
    return engine.run(WHERRY, "build", "--progress=plain", "-t", "remote", address, code=code)


def test_a_repository_leads_nowhere(context: Context, outside: Path, tmp_path: Path) -> None:
    """CVE-2026-33748, CVE-2026-44517: subdirectories that are links, submodules of other protocols, hooks, `..`."""
    repository = tmp_path / "r"
    repository.mkdir()
    (repository / "Dockerfile").write_text("FROM busybox\nCOPY . /c\nRUN cat /c/l/secret /c/f; ls -a /c\n")
    (repository / "sub").mkdir()
    (repository / "sub/Dockerfile").write_text("FROM busybox\nRUN echo in-sub > /in\n")
    (repository / "l").symlink_to(outside)
    (repository / "f").symlink_to(outside / "secret")
    (repository / ".gitmodules").write_text(f'[submodule "s"]\n\tpath = s\n\turl = ext::sh -c touch% {outside}/pwned\n')
    commit_all(repository)
    with serving(tmp_path) as address:
        _remote(context.engine, f"{address}/r#main:sub")
        assert context.run("remote", "cat", "/in") == "in-sub\n"
        for where, why in (
            ("", ""),
            ("#main", ""),
            ("#main:l", "l in the repository is not a directory"),
            ("#main:f", "f in the repository is not a directory"),
            ("#main:sub/../l", "invalid git directory"),
            ("#main:..", "invalid git directory"),
            ("#main:.git", "invalid git directory"),
            ("#main:/../../etc", "invalid git directory"),
        ):
            done = _remote(context.engine, f"{address}/r{where}", code=1 if why else 0)
            assert why in done.err
            assert CANARY not in done.out + done.err


# -- 45: contexts, Dockerfiles and downloads


def _tar(*members: tuple[str, str, str]) -> bytes:
    """An archive of (name, kind, link or content)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind, text in members:
            info = tarfile.TarInfo(name)
            if kind == "link":
                info.type, info.linkname = tarfile.SYMTYPE, text
                tar.addfile(info)
            elif kind == "hard":
                info.type, info.linkname = tarfile.LNKTYPE, text
                tar.addfile(info)
            else:
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def _send(context: Context, archive: bytes) -> str:
    """Build an archive as it is; what the engine says."""
    done = context.engine.run("docker", "build", "--no-cache", "-", code=None, env=CLASSIC, stdin=archive)
    return done.out + done.err


def test_a_dockerfile_that_is_a_link_reads_nothing_of_the_host(context: Context, outside: Path) -> None:
    """The Dockerfile, `.dockerignore` and a COPY's source as links out of the context."""
    inner = _send(
        context,
        _tar(
            ("Dockerfile", "link", "real"),
            ("real", "file", "FROM busybox\nCOPY l /l\nCOPY d/f /f\nRUN cat /l /f\n"),
            ("l", "link", "e/f"),
            ("e/f", "file", "mine\n"),
            ("d", "link", "e"),
            (".dockerignore", "link", "e/none"),
            ("e/none", "file", ""),
        ),
    )
    assert "\nmine\nmine\n" in inner  # links within the context are followed
    secret = str(outside / "secret")
    for link in (secret, f"../../../../../../../..{secret}"):
        assert CANARY not in _send(context, _tar(("Dockerfile", "link", link)))
        plain = ("Dockerfile", "file", "FROM busybox\nCOPY l /l\nRUN cat /l\n")
        assert CANARY not in _send(context, _tar(plain, ("l", "link", link)))
        assert CANARY not in _send(context, _tar(plain, ("l", "file", "x"), (".dockerignore", "link", link)))
        below = ("Dockerfile", "file", "FROM busybox\nCOPY l/secret /l\nRUN cat /l\n")
        assert CANARY not in _send(context, _tar(below, ("l", "link", str(outside))))


def test_a_context_that_wants_out_is_refused(context: Context, outside: Path) -> None:
    """Names with `..`, links that later names go through, hard links to what is not there."""
    plain = ("Dockerfile", "file", "FROM busybox\nRUN echo built\n")
    harmless = [("f", "file", "x"), ("l", "link", "d"), ("d/new", "file", "x"), ("h", "hard", "f")]
    assert "\nbuilt\n" in _send(context, _tar(plain, *harmless))
    attacks: list[tuple[list[tuple[str, str, str]], str]] = [
        ([("../../../escaped", "file", "x")], "leads out of the archive"),
        ([(f"..{outside}/new", "file", "x")], "leads out of the archive"),
        ([("l", "link", str(outside)), ("l/new", "file", "x")], "is not a directory"),
        ([("h", "hard", str(outside / "secret"))], "which is not there"),
        ([("h", "hard", "../../../../etc/passwd")], "leads out of the archive"),
    ]
    for members, why in attacks:
        said = _send(context, _tar(plain, *members))
        assert why in said
        assert CANARY not in said
    assert not Path("/escaped").exists()


def test_add_takes_an_archive_apart_inside(context: Context, outside: Path) -> None:
    """What ADD unpacks stays below its destination, whatever links are in the archive or in the root."""
    context.write(
        "a.tar", _tar(("l", "link", str(outside)), ("l/new", "file", "x"), ("k", "link", "/"), ("k/n", "file", "x"))
    )
    context.write("b.tar", _tar(("../../../../../../escaped", "file", "x")))
    context.write("c.tar", _tar(("l", "link", "e"), ("e/f", "file", "mine\n")))
    control = context.docker("FROM busybox\nADD c.tar /d/\nRUN cat /d/l/f\n")
    assert "\nmine\n" in control.out
    assert "is not a directory" in context.docker("FROM busybox\nADD a.tar /d/\n", code=1).err
    assert "leads out of the archive" in context.docker("FROM busybox\nADD b.tar /d/\n", code=1).err
    assert not Path("/escaped").exists()


class _Redirects(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Send everybody somewhere else, but for `/mine` and who is sent there."""
        self.send_response(200 if self.path == "/mine" else 302)
        if self.path == "/mine":
            self.send_header("Content-Length", "5")
        else:
            near = self.path == "/near"
            self.send_header("Location", "/mine" if near else "http://169.254.169.254/latest/meta-data/")
        self.end_headers()
        if self.path == "/mine":
            self.wfile.write(b"mine\n")

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


def test_a_download_is_not_sent_to_the_machines_own_services(context: Context) -> None:
    """A server that redirects to a link-local address, where clouds keep credentials, is not followed."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Redirects) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}/near"
            control = context.docker(f"FROM busybox\nADD {address} /f\nRUN cat /f\n")
            assert "\nmine\n" in control.out  # another redirection is followed
            address = f"http://127.0.0.1:{server.server_port}/file"
            done = context.docker(f"FROM scratch\nADD {address} /\n", code=1)
            assert "leads to 169.254.169.254" in done.err
            used = "FROM scratch\nCOPY --from=x / /\n"
            done = build(context, used, "--build-context", f"x={address}", code=1)
            assert "leads to 169.254.169.254" in done.err
        finally:
            server.shutdown()
            thread.join()
