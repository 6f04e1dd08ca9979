"""`wherry build`: contexts of which only the changes are sent, results of every kind, the views."""

import contextlib
import io
import json
import os
import pty
import tarfile
from pathlib import Path

import pytest

from tests.build.conftest import Context, tar_of
from tests.e2e.harness import BIN, Done, EngineProcess

pytestmark = pytest.mark.root
WHERRY = str(BIN / "wherry")


def build(context: Context, dockerfile: str, *flags: str, code: int | None = 0, stdin: bytes | None = None) -> Done:
    """Build a context with the wherry command, told in lines."""
    context.write("Dockerfile", dockerfile)
    argv = (WHERRY, "build", "--progress=plain", *flags)
    return context.engine.run(*argv, *(() if stdin is not None else (str(context.directory),)), code=code, stdin=stdin)


def test_only_what_changed_of_a_context_is_sent(context: Context) -> None:
    """The first build sends all files, the second none, the third the changed one; the result is right each time."""
    for number in range(50):
        context.write(f"d{number % 5}/f{number}", f"{number}" * 1000)
    dockerfile = "FROM busybox\nCOPY d0 d1 /x/\nRUN cat /x/* | wc -c > /n\n"
    assert "transferring context: 9" in build(context, dockerfile, "-t", "sent").err
    assert "transferring context: 0B" in build(context, dockerfile).err
    context.write("d0/f0", "changed")
    os.unlink(context.directory / "d1/f1")
    (context.directory / "d0/link").symlink_to("f0")
    changed = build(context, dockerfile, "-t", "sent").err
    assert "transferring context: 7B" in changed
    assert (
        context.run("sent", "sh", "-c", "cat /x/f0 /x/link; ls /x/f1 2>&1 | grep -c 'No such'") == "changedchanged1\n"
    )


def test_dockerignore_leaves_out_and_takes_in_again(context: Context) -> None:
    """What `.dockerignore` names is never sent; a negation takes in again; `<Dockerfile>.dockerignore` wins."""
    for path in ("a/keep", "a/drop", "b/x", "secret.txt", "main.c"):
        context.write(path, path)
    context.write(".dockerignore", "a\n!a/keep\n*.txt\nb/\n")
    build(context, "FROM busybox\nCOPY . /c\nRUN cd /c && find . -type f | sort > /list\n", "-t", "ignored")
    shown = context.run("ignored", "cat", "/list").split()
    assert shown == ["./.dockerignore", "./Dockerfile", "./a/keep", "./main.c"]
    context.write("Dockerfile.dockerignore", "*\n!main.c\n")
    build(context, "FROM busybox\nCOPY . /c\nRUN cd /c && find . -type f | sort > /list\n", "-t", "ignored")
    assert context.run("ignored", "cat", "/list") == "./main.c\n"


def test_a_wildcard_may_fit_nothing(context: Context) -> None:
    """As with BuildKit: what is there is copied, and nothing is made where nothing is; a name must be there."""
    context.write("main.c", "main")
    dockerfile = (
        "FROM busybox AS a\nRUN echo b > /b\nFROM busybox\nCOPY main.c extra* /c/\nCOPY none* /d/\nADD no?e /e/\n"
        "COPY --from=a /b /b? /f/\nRUN ls -d /c/* /[d-g] > /list\n"
    )
    build(context, dockerfile, "-t", "fits")
    assert context.run("fits", "cat", "/list").split() == ["/c/main.c", "/f"]
    assert '"/extra": not found' in build(context, "FROM busybox\nCOPY main.c extra /c/\n", code=1).err


def test_what_is_empty_beside_a_colon_is_root(context: Context) -> None:
    """`--chown` of arguments that nobody gave, as with BuildKit; a user alone brings its own group."""
    context.write("f", "f")
    owners = {
        "${U}:${G}": "0:0",
        "7:": "7:0",
        ":8": "0:8",
        ":www-data": "0:33",
        "mail:": "8:0",
        "mail": "8:8",
        "7": "7:7",
    }
    copies = "".join(f"COPY --chown={owner} f /o/{number}\n" for number, owner in enumerate(owners))
    build(context, f"FROM busybox\n{copies}", "-t", "owners")
    assert context.run("owners", "sh", "-c", "stat -c %u:%g /o/*").split() == list(owners.values())


def test_results_go_where_they_are_asked_to(context: Context, tmp_path: Path, engine: EngineProcess) -> None:
    """A directory, an archive, an OCI layout, an image: each has the files."""
    dockerfile = "FROM scratch\nCOPY <<EOF /d/f\nhere\nEOF\n"
    build(context, dockerfile, "-o", str(tmp_path / "out"))
    assert (tmp_path / "out/d/f").read_text() == "here\n"
    build(context, dockerfile, "-o", f"type=tar,dest={tmp_path}/o.tar", "-o", f"type=oci,dest={tmp_path}/oci.tar")
    with tarfile.open(tmp_path / "o.tar") as archive:
        assert archive.extractfile("d/f").read() == b"here\n"  # type: ignore[union-attr]
    with tarfile.open(tmp_path / "oci.tar") as archive:
        assert "index.json" in archive.getnames()
    out = engine.run(WHERRY, "build", "-q", "-o", "-", str(context.directory))
    assert tarfile.open(fileobj=io.BytesIO(out.out.encode())).getnames() == ["d", "d/f"]
    build(context, dockerfile, "-o", f"type=docker,dest={tmp_path}/docker.tar", "-t", "loaded:1")
    engine.docker("rmi", "loaded:1")
    assert "loaded:1" in engine.docker("load", "-i", str(tmp_path / "docker.tar")).out
    assert "/d/f" in "\n" + engine.run("sh", "-c", "docker export $(docker create loaded:1 x) | tar t | sed s:^:/:").out


def test_attack_privileged_files_of_a_result(context: Context, tmp_path: Path) -> None:
    """A result in a directory has no set-user-ID program, and no device; an archive has everything."""
    setuid = "FROM busybox AS b\nRUN mkdir /d && cp /bin/busybox /d/su && chmod 6755 /d/su\n"
    build(context, f"{setuid}FROM scratch\nCOPY --from=b /d /d\n", "-o", str(tmp_path / "out"))
    assert (tmp_path / "out/d/su").stat().st_mode & 0o7777 == 0o755
    device = "FROM busybox AS b\nRUN mkdir /d && mknod /d/null c 1 3\nFROM scratch\nCOPY --from=b /d /d\n"
    refused = build(context, device, "-o", str(tmp_path / "devices"), code=1).err
    assert "is a device node, which would be a device of this machine: use --output type=tar" in refused
    assert not (tmp_path / "devices/d/null").exists()
    build(context, device, "-o", f"type=tar,dest={tmp_path}/o.tar")
    with tarfile.open(tmp_path / "o.tar") as archive:
        assert archive.getmember("d/null").ischr()


def test_ids_and_metadata_are_written(context: Context, tmp_path: Path, engine: EngineProcess) -> None:
    """`--iidfile`, `--metadata-file` and `-q` tell the same image, which has the label and both names."""
    id_file, metadata = tmp_path / "iid", tmp_path / "meta"
    flags = (
        "-q",
        "--iidfile",
        str(id_file),
        "--metadata-file",
        str(metadata),
        "--label",
        "x=y",
        "-t",
        "m:1",
        "-t",
        "m:2",
    )
    done = build(context, "FROM busybox\nCMD true\n", *flags)
    assert done.out.strip() == id_file.read_text()
    found = json.loads(metadata.read_text())
    assert found["containerimage.config.digest"] == id_file.read_text()
    assert found["image.name"] == "docker.io/library/m:1,docker.io/library/m:2"
    inspected = json.loads(engine.docker("image", "inspect", "m:2").out)[0]
    assert (inspected["Id"], inspected["Config"]["Labels"]) == (id_file.read_text(), {"x": "y"})


def test_dockerfile_and_context_from_standard_input(context: Context) -> None:
    """`-` is a Dockerfile alone or an archive, `-f -` a Dockerfile for a directory."""
    context.write("f", "from the directory")
    build(context, "", "-", "-t", "stdin:1", stdin=b"FROM busybox\nRUN echo alone > /o\n")
    assert context.run("stdin:1", "cat", "/o") == "alone\n"
    archive = tar_of({"other": b"FROM busybox\nCOPY g /o\n", "g": b"from the archive"})
    build(context, "", "-f", "other", "-t", "stdin:2", "-", stdin=archive)
    assert context.run("stdin:2", "cat", "/o") == "from the archive"
    build(context, "", "-f", "-", "-t", "stdin:3", str(context.directory), stdin=b"FROM busybox\nCOPY f /o\n")
    assert context.run("stdin:3", "cat", "/o") == "from the directory"


def test_a_named_context_stands_for_an_image_or_a_stage(context: Context, tmp_path: Path) -> None:
    """`--build-context` gives a directory or another image for a name."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more/m").write_text("more")
    dockerfile = "FROM base\nCOPY --from=more m /m\nRUN --mount=from=more,target=/mm cat /mm/m > /n\n"
    flags = (
        "--build-context",
        f"more={tmp_path}/more",
        "--build-context",
        "base=docker-image://busybox",
        "-t",
        "named",
    )
    build(context, dockerfile, *flags)
    assert context.run("named", "cat", "/m", "/n") == "moremore"


def test_a_failed_step_is_shown_with_its_place(context: Context) -> None:
    """The step's output, the lines of the Dockerfile and BuildKit's words stand at the end."""
    done = build(context, "FROM busybox\nRUN echo why; exit 9\n", code=1)
    assert "> [2/2] RUN echo why; exit 9:\nwhy\n------\nDockerfile:2" in done.err
    assert "2 | >>> RUN echo why; exit 9" in done.err
    assert 'process "/bin/sh -c echo why; exit 9" did not complete successfully: exit code: 9' in done.err
    for source in ("nope", "/nope", "../../nope", "./x/../nope", "--from=busybox /nope"):
        missing = build(context, f"FROM busybox\nCOPY {source} /\n", code=1)
        assert 'failed to calculate checksum of ref: "/nope": not found' in missing.err


def test_rawjson_is_buildkits_status(context: Context) -> None:
    """`--progress rawjson` gives a message a line, with digests, names, times and output."""
    done = build(context, "FROM busybox\nRUN echo raw-output\n", "--progress", "rawjson", "--no-cache")
    messages = [json.loads(line) for line in done.err.splitlines()]
    names = {vertex["name"] for message in messages for vertex in message.get("vertexes", ())}
    assert "[2/2] RUN echo raw-output" in names
    assert any(message.get("logs") for message in messages)


def test_a_terminal_sees_a_list_that_is_drawn_anew(context: Context) -> None:
    """On a terminal the steps are a list with their times, which ends as FINISHED."""
    context.write("Dockerfile", "FROM busybox\nRUN echo seen\n")
    master, slave = pty.openpty()
    try:
        pid = os.posix_spawn(
            WHERRY,
            [WHERRY, "build", "--no-cache", str(context.directory)],
            context.engine.env,
            file_actions=[(os.POSIX_SPAWN_DUP2, slave, 2)],
        )
        os.close(slave)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: nobody has the terminal any more
            while piece := os.read(master, 65536):
                shown += piece
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        os.close(master)
    assert b"[+] Building" in shown
    assert b" FINISHED" in shown
    assert b" => [2/2] RUN echo seen" in shown
