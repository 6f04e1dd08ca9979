"""What an image says of itself steers nothing, and what lies in the store is nobody else's (attacks 37 to 39).

Each attack has its control: what the image asks for in vain is had by whoever may ask for it.
"""

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import EngineProcess

NOBODY = 65534
# what engines, composers and ours read out of labels
RESERVED = {
    "wherry.service": "stolen",
    "wherry.service.port": "80",
    "wherry.service.publish": "127.0.0.1:65000",
    "wherry.internal": "true",
    "io.wherry.hidden": "1",
    "com.docker.compose.project": "x",
    "com.docker.volume.anonymous": "",
    "io.cri-containerd.kind": "sandbox",
    "org.opencontainers.image.ref.name": "../../x",
    "containerd.io/restart.status": "running",
    "io.podman.annotations.privileged": "TRUE",
    "nerdctl/mounts": '[{"Source":"/etc","Destination":"/host"}]',
}


def without_identity(found: dict[str, Any]) -> str:
    """A container's whole inspect without what is its own: ids, names, times, addresses, and the image it is of."""
    text = json.dumps({key: value for key, value in found.items() if key not in ("Image", "Created", "Name", "Id")})
    for own in (found["Id"], found["Id"][:12], found["Name"]):
        text = text.replace(own, "<own>")
    cleaned: dict[str, Any] = json.loads(text)
    cleaned["Config"]["Labels"] = cleaned["Config"]["Image"] = None
    for key in ("State", "NetworkSettings", "GraphDriver"):
        cleaned.pop(key)
    return json.dumps(cleaned, sort_keys=True)


def test_labels_of_an_image_change_nothing(engine: EngineProcess) -> None:
    """CVE-2026-53488: a container of an image with every reserved label is what it is without them."""
    engine.docker("create", "--name", "base", "busybox")
    changes = [flag for key, value in RESERVED.items() for flag in ("-c", f"LABEL {key}={json.dumps(value)}")]
    engine.docker("commit", *changes, "base", "labelled:1")
    engine.docker("commit", "base", "plain:1")
    seen = []
    for image in ("labelled:1", "plain:1"):
        name = image.partition(":")[0]
        engine.docker("run", "-d", "--name", name, image, "sleep", "99")
        found = json.loads(engine.docker("inspect", name).out)[0]
        mounts = engine.docker("exec", name, "cut", "-d", " ", "-f", "2,3", "/proc/mounts").out
        seen.append((without_identity(found), mounts, len(found["NetworkSettings"]["Networks"])))
        for label, value in RESERVED.items():
            assert (found["Config"]["Labels"].get(label) == value) == (name == "labelled"), label
    assert seen[0] == seen[1]
    assert "stolen" not in engine.wherry("proxy", "ls").out
    # the control: the same labels do it, from the one who runs the container
    asked = [
        word for key in ("wherry.service", "wherry.service.port") for word in ("--label", f"{key}={RESERVED[key]}")
    ]
    engine.docker("run", "-d", "--name", "asked", *asked, "busybox", "sleep", "99")
    assert "stolen" in engine.wherry("proxy", "ls").out
    engine.docker("rm", "-f", "asked")
    assert set(engine.docker("ps", "--format", "{{.Names}}").out.split()) == {"labelled", "plain"}
    engine.docker("rm", "-f", "labelled", "plain", "base")
    engine.docker("rmi", "labelled:1", "plain:1")


def test_the_store_is_closed_to_others(engine: EngineProcess) -> None:
    """CVE-2021-41091: another user reaches no file of a layer, nor of a container, whatever its mode."""
    engine.docker("run", "-d", "--name", "kk", "busybox", "sh", "-c", "cp /bin/sh /su; chmod 4755 /su; sleep 99")
    engine.docker("commit", "kk", "setuid:1")
    data = Path(engine.roots.data)
    base = engine.base.stat().st_mode
    engine.base.chmod(0o755)  # a test's directory would hide everything by itself
    try:
        for name in ("blobs", "ingest", "trash", "snapshots", "containers", "volumes", "seccomp"):
            assert stat.S_IMODE((data / name).stat().st_mode) & 0o007 == 0, name
        layers = [Path(path) for path in _layers(engine)]
        reached = [
            *(layer / "su" for layer in layers),
            *(layer / "bin/sh" for layer in layers),
            Path(engine.roots.container(engine.docker("inspect", "-f", "{{.Id}}", "kk").out.strip())) / "upper/su",
        ]
        assert sum(path.exists() for path in reached) >= 2
        for path in reached:
            for words in (["/usr/bin/stat", path], ["/bin/cat", path], [path, "-c", "id"]):
                assert _denied([str(word) for word in words]), words
        for private in ("wherry.db", "lock", "schema"):
            assert _denied(["/bin/cat", str(data / private)]), private
        # the control: this user can do all that with the same file where anybody may go
        opened = engine.base / "opened"
        opened.mkdir()
        opened.chmod(0o755)
        try:
            shell = str(shutil.copy(next(path for path in reached if path.is_file()), opened / "sh"))
            for command in (["/usr/bin/stat", shell], ["/bin/cat", shell], [shell, "-c", "id"]):
                assert _ran(command).returncode == 0, command
        finally:
            shutil.rmtree(opened)
    finally:
        engine.base.chmod(stat.S_IMODE(base))
    engine.docker("rm", "-f", "kk")
    engine.docker("rmi", "setuid:1")


def _denied(words: list[str]) -> bool:
    """Whether a user without rights is not let near."""
    try:
        done = _ran(words)
    except PermissionError:
        return True
    return done.returncode != 0 and b"ermission denied" in done.stderr


def _ran(words: list[str]) -> "subprocess.CompletedProcess[bytes]":
    """A command of a user without rights."""
    return subprocess.run(words, capture_output=True, check=False, user=NOBODY, group=NOBODY, extra_groups=[])


def _layers(engine: EngineProcess) -> list[str]:
    data = json.loads(engine.docker("image", "inspect", "-f", "{{json .GraphDriver.Data}}", "setuid:1").out)
    return [data["UpperDir"], *data["LowerDir"].split(":")]


def test_a_container_sees_nothing_of_the_data_root(engine: EngineProcess) -> None:
    """CVE-2021-21284: nothing of the engine's state is in a container by itself; `test_userns.py` mounts it there."""
    script = f"ls {engine.roots.data} /proc/1/root{engine.roots.data}"
    assert engine.docker("run", "--rm", "busybox", "sh", "-c", script, code=1).out == ""
    # the control: the script finds what somebody with a right to it mounts there
    mounted = engine.docker(
        "run", "--rm", "-v", f"{engine.roots.data}:{engine.roots.data}:ro", "busybox", "sh", "-c", script
    )
    assert mounted.out.split().count("wherry.db") == 2


@pytest.mark.parametrize(
    ("path", "inside"),
    [("/x/../../../etc", "/etc"), ("/link/deeper", "/etc/deeper"), ("/x/inner", "/x/inner")],
    ids=["parents", "link", "control"],
)
def test_a_volume_of_an_image_lies_inside(engine: EngineProcess, path: str, inside: str) -> None:
    """CVE-2022-23648: where an image says that a volume lies is read inside the container, and filled from there."""
    places = "/etc /etc/deeper /x/inner"
    script = f"ln -s /etc /link; mkdir -p {places}; for at in {places}; do echo in > $at/mark; done"
    engine.docker("run", "--name", "kk", "busybox", "sh", "-c", script)
    engine.docker("commit", "-c", f'VOLUME ["{path}"]', "kk", "vol:1")
    done = engine.docker("run", "--rm", "vol:1", "sh", "-c", f"ls /etc; cat /proc/mounts {inside}/mark")
    # it is there, with what the image has in that directory
    assert f" {inside} " in done.out
    assert done.out.endswith("\nin\n")
    host = set(os.listdir("/etc")) - {"hosts", "hostname", "resolv.conf", "passwd", "group", "shadow", "mtab"}
    assert not host.intersection(done.out.split()), done
    engine.docker("rmi", "-f", "vol:1")
