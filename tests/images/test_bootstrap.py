"""Bootstrapped images: the same packages give the same image, and it works."""

import asyncio
import os
import subprocess
from typing import Any

import pytest

from tests.images.conftest import Store
from wherry.errors import InvalidArgument, Unavailable
from wherry.images import bootstrap

pytestmark = pytest.mark.root


def make_image(store: Store, name: str) -> str:
    """Bootstrap, with the messages collected."""
    store.messages.clear()
    return store.run(store.images.bootstrap(name, store.messages.append))


def test_busybox(store: Store) -> None:
    """Two bootstraps are one image, whose shell and applets run and whose directories are as they should be."""
    first = make_image(store, "busybox")
    assert "Building busybox:latest" in store.messages[0]["status"]
    assert store.messages[-1] == {"status": "Successfully tagged busybox:latest"}
    assert make_image(store, "docker.io/library/busybox:latest") == first
    assert store.names() == ["busybox:latest"]
    image = store.images.resolve("busybox")
    assert image.config.config.cmd == ["sh"]
    assert image.config.config.env == ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    root = store.overlay.path(image.chain_ids[0])
    script = "id -un; seq 1 3 | wc -l; test -x /usr/bin/env; stat -c %a /tmp /root; ls -d /proc /sys /dev"
    done = subprocess.run(
        ["chroot", root, "/bin/sh", "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.split() == ["root", "3", "1777", "700", "/dev", "/proc", "/sys"]
    assert os.stat(f"{root}/bin/sh").st_ino == os.stat(f"{root}/bin/busybox").st_ino
    store.check()


@pytest.mark.parametrize("name", ["alpine", "debian", "debian:sid", "busybox:1", "x/busybox"])
def test_unknown(store: Store, name: str) -> None:
    """What cannot be bootstrapped is refused, with what can."""
    with pytest.raises(InvalidArgument, match="possible are busybox, debian:bookworm, debian:trixie"):
        make_image(store, name)


@pytest.mark.parametrize(("name", "package"), [("busybox", "busybox-static"), ("debian:trixie", "mmdebstrap")])
def test_missing(store: Store, monkeypatch: pytest.MonkeyPatch, name: str, package: str) -> None:
    """A missing program is told by its package."""
    monkeypatch.setattr(bootstrap, "_SEARCH", "/nowhere")
    with pytest.raises(Unavailable, match=f"install the package {package}"):
        make_image(store, name)


def test_not_static(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """A busybox that needs libraries is refused: the image has none."""
    (tmp_path / "busybox").symlink_to("/bin/true")
    monkeypatch.setattr(bootstrap, "_SEARCH", str(tmp_path))
    with pytest.raises(Unavailable, match="not statically linked"):
        make_image(store, "busybox")


def test_failing_program(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """When mmdebstrap fails its words are told, and nothing is left."""
    program = tmp_path / "mmdebstrap"
    program.write_text("#!/bin/sh\necho 'I: trying' >&2\necho 'E: no mirror' >&2\nexit 25\n")
    program.chmod(0o755)
    monkeypatch.setattr(bootstrap, "_SEARCH", str(tmp_path))
    with pytest.raises(Unavailable, match="mmdebstrap failed with code 25: E: no mirror"):
        make_image(store, "debian:trixie")
    assert {"status": "trying"} in store.messages
    store.check()


def test_a_bootstrap_that_is_cancelled_ends_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """What mmdebstrap waits for (apt, dpkg) is ended too, so that it cleans up and goes."""
    program = tmp_path / "mmdebstrap"
    child = "echo 'I: working' >&2; exec /bin/sleep 600"
    program.write_text(f"#!/bin/sh\ntrap 'echo > {tmp_path}/cleaned; exit 1' TERM\n/bin/sh -c \"{child}\"\necho more\n")
    program.chmod(0o755)
    monkeypatch.setattr(bootstrap, "_SEARCH", str(tmp_path))

    async def run() -> None:
        working = asyncio.Event()
        messages: list[Any] = []

        def told(message: Any) -> None:
            messages.append(message)
            if message == {"status": "working"}:
                working.set()

        making = asyncio.ensure_future(store.images.bootstrap("debian:trixie", told))
        await asyncio.wait_for(working.wait(), 20)
        making.cancel()
        done, _ = await asyncio.wait([making], timeout=20)
        assert done, "it goes on"
        assert making.cancelled()

    store.run(run())
    assert (tmp_path / "cleaned").exists()
    store.check()


def test_the_cleaning_is_no_progress(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """mmdebstrap prints the hook that it runs: lines of a script tell nobody anything."""
    program = tmp_path / "mmdebstrap"
    program.write_text(
        "#!/bin/sh\nfor word; do case $word in --customize-hook=*)\n"
        "    echo \"I: running --customize-hook in shell: sh -c '${word#*=}' exec /tmp/x\" >&2;; esac; done\n"
        "echo 'I: cleaning' >&2; exit 25\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(bootstrap, "_SEARCH", str(tmp_path))
    with pytest.raises(Unavailable, match="mmdebstrap failed with code 25"):
        make_image(store, "debian:trixie")
    assert [message["status"] for message in store.messages[1:]] == ["cleaning"]
    store.check()
