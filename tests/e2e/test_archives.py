"""export and import against a live engine: stopped and running containers, standard streams, files, URLs."""

import http.server
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator

import pytest

from tests.e2e.harness import EngineProcess, until
from tests.images.image_archives import tar


class _Handler(http.server.BaseHTTPRequestHandler):
    """What the test's web server has."""

    archive = tar({"bin/": b"", "bin/hello": b"hi" * 1000})

    def do_GET(self) -> None:
        """Serve the archive in several ways, or send somewhere else."""
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path[4:])
            self.end_headers()
            return
        if self.path == "/loop":
            self.send_response(302)
            self.send_header("Location", "/loop")
            self.end_headers()
            return
        if self.path not in ("/a.tar", "/short.tar"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.archive)))
        self.end_headers()
        self.wfile.write(self.archive if self.path == "/a.tar" else self.archive[:1000])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    """A web server on loopback; gives its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def names(archive: bytes) -> set[str]:
    """The members of an archive."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as file:
        return set(file.getnames())


def export(engine: EngineProcess, path: str, name: str, tool: str = "docker") -> tarfile.TarFile:
    """Export to a file and open it."""
    getattr(engine, tool)("export", "-o", path, name)
    return tarfile.open(path)


def test_what_is_mounted_is_not_exported(engine: EngineProcess) -> None:
    """Of a container that runs, is stopped or never ran: its files, and the empty places below mounts."""
    script = "echo mine > /mine; echo no > /t/inside; rm /bin/ls; exec sleep 999"
    engine.docker("run", "-d", "--name", "kk", "--tmpfs", "/t", "-v", "/etc:/data", "busybox", "sh", "-c", script)
    until(lambda: "D /bin/ls" in engine.docker("diff", "kk").out, "the file is gone")
    seen = []
    for number, state in enumerate(("running", "exited")):
        path = str(engine.base / f"{number}.tar")
        with export(engine, path, "kk", "docker" if number else "wherry") as archive:
            found = {entry.name: entry for entry in archive.getmembers()}
            assert archive.extractfile("mine").read() == b"mine\n"  # type: ignore[union-attr]
        assert "bin/ls" not in found, state
        assert "bin/sh" in found
        assert found["proc"].isdir()
        assert not [name for name in found if name.startswith(("proc/", "sys/", "dev/", "t/", "data/"))]
        assert found["etc/hosts"].size == 0
        seen.append(
            {
                (entry.name, entry.mode, entry.uid, entry.size, entry.type)
                for entry in found.values()
                if entry.name not in ("proc", "sys", "dev", "t", "data", "etc/hosts", "etc/hostname", "etc/resolv.conf")
            }
        )
        engine.docker("kill", "kk", check=False)
        until(lambda: engine.docker("inspect", "-f", "{{.State.Running}}", "kk").out == "false\n", "it ended")
    assert seen[0] == seen[1]
    engine.docker("create", "--name", "nn", "busybox", "true")
    with export(engine, str(engine.base / "n.tar"), "nn") as archive:
        assert "bin/ls" in archive.getnames()
    assert not engine.mounts()


def test_export_then_import_is_the_same_tree(engine: EngineProcess) -> None:
    """Owners, modes, links, devices and times survive; the image runs."""
    script = (
        "mkdir -p /t/sub; echo a > /t/f; ln /t/f /t/g; chmod 4711 /t/f; mknod /t/dev c 1 3; mkfifo -m 620 /t/p;"
        "chown 3:4 /t/sub; ln -s nowhere /t/s; touch -h -d '2001-02-03 04:05:06' /t/*"
    )
    look = 'stat -c "%n %a %u %g %h %F %Y %t %T" /t/*; readlink /t/s'
    before = engine.docker("run", "--name", "kk", "busybox", "sh", "-c", f"{script}; {look}").out
    engine.run("sh", "-c", f"docker export kk | docker import -m words -c 'CMD {look}' - k:1")
    assert engine.docker("run", "--rm", "k:1").out == before
    assert json.loads(engine.docker("history", "--format", "json", "k:1").out)["Comment"] == "words"
    engine.docker("rmi", "k:1")


def test_a_growing_file_does_not_break_an_export(engine: EngineProcess) -> None:
    """Files grow and shrink while a running container is read: the archive is whole all the same."""
    loop = "while :; do head -c 3000000 /dev/zero > /f; : > /f; done"
    engine.docker("run", "-d", "--name", "kk", "busybox", "sh", "-c", loop)
    for number in range(5):
        with export(engine, str(engine.base / f"g{number}.tar"), "kk") as archive:
            assert "bin/sh" in archive.getnames()


def test_a_client_that_goes_away_ends_the_export(engine: EngineProcess) -> None:
    """No worker stays behind."""
    engine.docker("run", "--name", "kk", "busybox", "sh", "-c", "head -c 50000000 /dev/zero > /big")
    engine.run("sh", "-c", "docker export kk | head -c 1000 > /dev/null", code=None)
    until(
        lambda: b"wherry-export" not in b"".join(_titles(engine)),
        "the worker is gone",
    )


def _titles(engine: EngineProcess) -> list[bytes]:
    found = []
    for pid in os.listdir("/proc"):
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                fields = file.read()
            if int(fields[fields.rindex(b")") + 2 :].split()[1]) == engine.spawner:
                found.append(fields)
        except (OSError, ValueError):
            continue
    return found


def test_import_from_a_url(engine: EngineProcess, web: str) -> None:
    """The engine fetches it, and says from where; the image has the instructions and the comment."""
    said = engine.docker("import", "-c", 'CMD ["/bin/hello"]', f"{web}/a.tar", "u:1").out
    assert f"Downloading from {web}/a.tar" in said
    found = json.loads(engine.docker("image", "inspect", "u:1").out)[0]
    assert (found["Comment"], found["Config"]["Cmd"]) == (f"Imported from {web}/a.tar", ["/bin/hello"])
    assert found["Id"] in said
    engine.wherry("import", "-m", "mine", f"{web}/to/{web}/a.tar", "u:2")
    assert engine.docker("image", "inspect", "-f", "{{.Comment}}", "u:2").out == "mine\n"
    engine.docker("rmi", "u:1", "u:2")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/nope", "with status 404"),
        ("/loop", "redirects in a circle"),
        ("/to/http://169.254.169.254/latest/meta-data", "leads to 169.254.169.254"),
        ("/to/file:///etc/passwd", "has no http address"),
        ("/to/http://user:secret@127.0.0.1/", "has a user in its URL"),
        ("/short.tar", "EOF|broke off|Response payload|not completed"),
    ],
)
def test_import_from_a_url_that_is_none(engine: EngineProcess, web: str, path: str, words: str) -> None:
    """What does not give an archive leaves nothing, and says why."""
    before = engine.docker("images", "-aq").out
    failed = engine.docker("import", f"{web}{path}", "u:1", code=1)
    assert any(word in failed.err for word in words.split("|")), failed
    assert engine.docker("images", "-aq").out == before
    assert not [name for name in os.listdir(engine.roots.ingest) if name.startswith(("_", "layer-"))]


def test_import_checks_before_it_fetches(engine: EngineProcess, web: str) -> None:
    """A wrong instruction or name is told at once; other schemes than http are refused by the engine."""
    for flags, words in (
        (("-c", "FOO x", f"{web}/a.tar"), "FOO is not a valid change command"),
        ((f"{web}/a.tar", "UPPER"), "must be lowercase"),
    ):
        assert words in engine.wherry("import", *flags, code=1).err
    import_ = "http://d/images/create?fromSrc=ftp://x/y"
    said = engine.run("curl", "-s", "--unix-socket", engine.roots.socket, "-X", "POST", import_).out
    assert json.loads(said)["message"] == 'Get "ftp://x/y": unsupported protocol scheme "ftp"'
