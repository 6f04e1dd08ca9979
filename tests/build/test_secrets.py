"""CVE-2023-26054 and its kin (attack 44): a secret is in the step's memory, and nowhere else."""

import hashlib
import os
import secrets
import socket
import subprocess
from pathlib import Path

import pytest

from tests.build.conftest import Context
from tests.build.test_wherry import WHERRY, build
from tests.e2e.harness import EngineProcess, until

pytestmark = pytest.mark.root
CANARY = "c4n4ry-9f8e7d6c5b"


def places_with(needle: str, *tops: str) -> list[str]:
    """Files that hold a text, compressed layers among them."""
    done = subprocess.run(["grep", "-rlaF", needle, *tops], capture_output=True, text=True, check=False)
    found = done.stdout.split()
    for top in tops:
        for path in Path(top).rglob("*"):
            if path.is_file() and path.stat().st_size and path.read_bytes()[:2] == b"\x1f\x8b":
                plain = subprocess.run(["zcat", "-f", str(path)], capture_output=True, check=False).stdout
                if needle.encode() in plain:
                    found.append(str(path))
    return found


def test_a_secret_is_in_no_layer_log_history_cache_key_or_file(
    context: Context, tmp_path: Path, engine: EngineProcess
) -> None:
    """The step reads it by file and by variable; no artefact of the build and no file of the engine has it."""
    (tmp_path / "secret").write_text(CANARY)
    dockerfile = (
        "FROM busybox\n"
        "RUN --mount=type=secret,id=token,mode=0440,gid=7 --mount=type=secret,id=token,env=TOKEN "
        'test "$(cat /run/secrets/token)" = "$TOKEN" && test ${#TOKEN} = 17 && '
        "stat -c '%a %g' /run/secrets/token > /seen && cat /run/secrets/token | md5sum > /sum\n"
    )
    done = build(context, dockerfile, "-t", "secret", "--secret", f"id=token,src={tmp_path}/secret")
    assert CANARY not in done.err + done.out
    assert context.run("secret", "cat", "/seen") == "440 7\n"
    assert context.run("secret", "sh", "-c", "ls /run/secrets 2>&1 | grep -c 'No such'") == "1\n"
    assert CANARY not in engine.docker("history", "--no-trunc", "secret").out
    assert CANARY not in engine.docker("image", "inspect", "secret").out
    assert places_with(CANARY, engine.roots.data, engine.roots.run, str(engine.log)) == []
    (tmp_path / "secret").write_text("another-secret-xx")
    assert "CACHED" in build(context, dockerfile, "--secret", f"id=token,src={tmp_path}/secret").err


@pytest.mark.parametrize("form", ["env=TOKEN,dst=/token", "env=TOKEN"])
def test_a_secret_is_in_no_file_while_its_step_runs(context: Context, tmp_path: Path, form: str) -> None:
    """Neither in the run root (the step's configuration is there) nor in the data root, as a variable or as a file."""
    engine = context.engine
    (tmp_path / "secret").write_text(CANARY)
    marker = f"step-{secrets.token_hex(8)}"
    script = f": {marker} && test ${{#TOKEN}} = 17 && while :; do sleep 1; done"
    context.write("Dockerfile", f"FROM busybox\nRUN --mount=type=secret,id=t,{form} {script}\n")
    words = (WHERRY, "build", "--secret", f"id=t,src={tmp_path}/secret", str(context.directory))
    client = subprocess.Popen(words, env=engine.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: _runs(marker), "the step runs")
        assert places_with(CANARY, engine.roots.data, engine.roots.run, str(engine.log)) == []
        assert client.poll() is None
    finally:
        client.terminate()
        client.wait()
    until(lambda: not _runs(marker), "the step is gone")


def _runs(marker: str) -> bool:
    """Whether there is a process with this among its arguments."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker.encode() in path.read_bytes():
                return True
        except OSError:
            continue
    return False


def test_a_value_with_a_nul_byte_is_refused(context: Context, tmp_path: Path) -> None:
    """No variable can hold it; cut in two it would be another variable."""
    (tmp_path / "secret").write_bytes(b"one\0PATH=/evil")
    dockerfile = "FROM busybox\nRUN --mount=type=secret,id=t,env=TOKEN true\n"
    done = build(context, dockerfile, "--secret", f"id=t,src={tmp_path}/secret", code=1)
    assert "secret t: an environment variable cannot hold a NUL byte" in done.err


def test_a_secret_is_given_and_mounted_in_every_form(context: Context, tmp_path: Path) -> None:
    """By file, by variable, by its id alone; at a place of its own, with mode and owner, or as a variable only."""
    (tmp_path / "file").write_text("of a file")
    dockerfile = (
        "FROM busybox\n"
        "RUN --mount=type=secret,id=f,target=/a/b,mode=0444,uid=5,gid=6 --mount=type=secret,id=WORD,required=true "
        "--mount=type=secret,id=named,env=GIVEN --mount=type=secret,id=typed,env=TYPED,dst=/typed "
        "{ cat /a/b; echo; stat -c '%a %u:%g' /a/b /run/secrets/WORD; cat /run/secrets/WORD; echo \" $GIVEN $TYPED\"; "
        "cat /typed; test ! -e /run/secrets/named; } | md5sum > /sum\n"
    )
    seen = "of a file\n444 5:6\n400 0:0\nword variable typed\ntyped"
    context.write("Dockerfile", dockerfile)
    flags = (f"type=file,id=f,src={tmp_path}/file", "id=WORD", "id=named,env=OTHER", "type=env,id=typed,src=MORE")
    words = [word for flag in flags for word in ("--secret", flag)]
    variables = {"WORD": "word", "OTHER": "variable", "MORE": "typed"}
    context.engine.run(WHERRY, "build", "-t", "forms", *words, str(context.directory), env=variables)
    assert context.run("forms", "cat", "/sum").split()[0] == hashlib.md5(seen.encode()).hexdigest()
    for flag, words_ in (
        ("id=x,env=NOT_SET_AT_ALL", "environment variable NOT_SET_AT_ALL is not set"),
        (f"id=x,src={tmp_path}/none", "no such file"),
        ("type=vault,id=x", 'unsupported secret type "vault"'),
        ("id=x,colour=red", "unexpected key 'colour'"),
    ):
        done = context.engine.run(WHERRY, "build", "--secret", flag, str(context.directory), code=None)
        assert done.code
        assert words_ in done.err


def test_a_missing_secret_is_empty_or_refused(context: Context) -> None:
    """Without it the mount is left out, with `required` the step fails and names it."""
    build(context, "FROM busybox\nRUN --mount=type=secret,id=none test ! -e /run/secrets/none\n")
    done = build(context, "FROM busybox\nRUN --mount=type=secret,id=none,required true\n", code=1)
    assert "secret none: not found" in done.err


def test_an_agents_socket_is_in_the_step_only(context: Context, tmp_path: Path) -> None:
    """The socket of `--ssh` can be reached by the step, by its variable; nothing of it is in the layer."""
    path = str(tmp_path / "agent")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()
        dockerfile = "FROM busybox\nRUN --mount=type=ssh test -S $SSH_AUTH_SOCK && echo $SSH_AUTH_SOCK > /where\n"
        build(context, dockerfile, "-t", "agent", "--ssh", f"default={path}")
    assert context.run("agent", "cat", "/where").startswith("/run/buildkit/ssh_agent.")
    assert context.run("agent", "sh", "-c", "ls /run/buildkit 2>&1 | grep -c 'No such'") == "1\n"
    denied = build(context, "FROM busybox\nRUN --mount=type=ssh,required true\n", code=1)
    assert "unset ssh forward key default" in denied.err
    assert os.path.exists(path)
