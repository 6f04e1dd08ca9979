"""What a build takes from elsewhere: downloads and their checksums, contexts by address, repositories."""

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build.conftest import CLASSIC, Context, tar_of
from tests.build.test_hostile import commit_all, serving
from tests.build.test_wherry import build

pytestmark = pytest.mark.root


class _Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@pytest.fixture
def files(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Give a directory and the address under which it is served."""
    directory = tmp_path / "served"
    directory.mkdir()
    handler = functools.partial(_Files, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield directory, f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_download_is_what_its_checksum_says(context: Context, files: tuple[Path, str]) -> None:
    """ADD of an address: its name, mode and content; `--checksum` refuses another one, which then is nowhere."""
    directory, address = files
    (directory / "tool.sh").write_text("echo first\n")
    digest = hashlib.sha256(b"echo first\n").hexdigest()
    dockerfile = f"FROM busybox\nADD --checksum=sha256:{digest} {address}/tool.sh /t/\n"
    build(context, dockerfile, "-t", "download")
    assert context.run("download", "sh", "-c", "sh /t/tool.sh; stat -c '%a %u' /t/tool.sh") == "first\n600 0\n"
    (directory / "tool.sh").write_text("echo other\n")
    refused = build(context, dockerfile, "--no-cache", code=1)
    assert "digest mismatch" in refused.err
    assert digest in refused.err
    for content in ("other", "third"):  # without one the content counts, not the address
        (directory / "tool.sh").write_text(content)
        build(context, f"FROM busybox\nADD {address}/tool.sh /t/\n", "-t", "download")
        assert context.run("download", "cat", "/t/tool.sh") == content


def test_a_context_by_address_is_an_archive_or_a_dockerfile(context: Context, files: tuple[Path, str]) -> None:
    """A compressed archive, with a Dockerfile of another name; a Dockerfile alone; by both commands."""
    directory, address = files
    (directory / "context.tar").write_bytes(tar_of({"other": b"FROM busybox\nCOPY g /o\n", "g": b"of the archive"}))
    (directory / "alone").write_bytes(b"FROM busybox\nRUN echo alone > /o\n")
    wherry = ("build", "-q", "-t", "remote:1")
    context.engine.wherry(*wherry, "-f", "other", f"{address}/context.tar")
    assert context.run("remote:1", "cat", "/o") == "of the archive"
    docker = ("docker", "build", "-q", "-t", "remote:2")
    context.engine.run(*docker, "-f", "other", f"{address}/context.tar", env=CLASSIC)
    assert context.run("remote:2", "cat", "/o") == "of the archive"
    context.engine.wherry(*wherry, f"{address}/alone")
    assert context.run("remote:1", "cat", "/o") == "alone\n"
    missing = context.engine.wherry(*wherry, f"{address}/no.tar", code=1)
    assert "404" in missing.err


def test_a_repository_is_a_context_or_a_source(context: Context, tmp_path: Path) -> None:
    """A branch, a tag and a directory of it; ADD takes its files without `.git`, or with it."""
    repository = tmp_path / "r"
    (repository / "sub").mkdir(parents=True)
    (repository / "Dockerfile").write_text("FROM busybox\nCOPY v /v\n")
    (repository / "v").write_text("one")
    (repository / "sub/Dockerfile").write_text("FROM busybox\nCOPY . /sub\n")
    commit_all(repository, tag="v1")
    (repository / "v").write_text("two")
    commit_all(repository)
    with serving(tmp_path) as address:
        for where, shown in (("", "two"), ("#main", "two"), ("#v1", "one")):
            context.engine.wherry("build", "-q", "-t", "repository", f"{address}/r{where}")
            assert context.run("repository", "cat", "/v") == shown
        context.engine.wherry("build", "-q", "-t", "repository", f"{address}/r#v1:sub")
        assert context.run("repository", "ls", "-A", "/sub") == "Dockerfile\n"
        dockerfile = f"FROM busybox\nADD {address}/r#v1 /a\nADD --keep-git-dir=true {address}/r /b\n"
        build(context, dockerfile, "-t", "repository")
        shown = context.run("repository", "sh", "-c", "cat /a/v /b/v; ls -A /a | wc -l; test -d /b/.git && echo kept")
        assert shown == "onetwo3\nkept\n"


def test_privileges_are_the_callers_to_give(context: Context) -> None:
    """`--allow` gives a step the host's network, or all capabilities; `--network=none` leaves loopback."""
    dockerfile = (
        "FROM busybox\nRUN --network=none ls /sys/class/net > /none\nRUN --network=host ls /sys/class/net > /host\n"
    )
    build(context, dockerfile, "--allow", "network.host", "-t", "nets")
    assert context.run("nets", "cat", "/none") == "lo\n"
    host = sorted(path.name for path in Path("/sys/class/net").iterdir() if path.is_dir())
    assert set(host) & set(context.run("nets", "cat", "/host").split()) > {"lo"}
    capabilities = "grep CapEff /proc/self/status | cut -f 2"
    dockerfile = f"FROM busybox\nRUN {capabilities} > /some\nRUN --security=insecure {capabilities} > /all\n"
    build(context, dockerfile, "--allow", "security.insecure", "-t", "caps")
    some, every = context.run("caps", "cat", "/some", "/all").split()
    assert int(some, 16) == 0xA80425FB
    assert int(every, 16) & int(some, 16) == int(some, 16)
    assert int(every, 16) & (1 << 21)  # CAP_SYS_ADMIN
