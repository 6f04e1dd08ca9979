"""`--ssh`: the agent, or the key, is the client's, wherever the engine runs; nothing of it stays."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build.conftest import Context, Second
from tests.build.test_secrets import places_with
from tests.build.test_wherry import WHERRY, build
from tests.e2e.harness import BIN, EngineProcess
from tests.e2e.test_copy import FAKE_SSH

pytestmark = pytest.mark.root

LIST = 'FROM scratch\nCOPY root /\nRUN --mount=type=ssh {flags} ["/usr/bin/ssh-add", "{what}"]\n'


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private key."""
    path = tmp_path_factory.mktemp("key") / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "of the test", "-f", str(path)], check=True)
    return path


@pytest.fixture
def agent(key: Path, tmp_path: Path) -> Iterator[str]:
    """The socket of a real agent that has the key."""
    path = str(tmp_path / "agent")
    with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            subprocess.run(["ssh-add", "-q", str(key)], env={**os.environ, "SSH_AUTH_SOCK": path}, check=True)
            yield path
        finally:
            process.kill()


@pytest.fixture
def lister(context: Context) -> Context:
    """A context with a root in which `ssh-add` runs."""
    program = shutil.which("ssh-add")
    assert program is not None
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for path in (program, *(word for word in listed.split() if word.startswith("/"))):
        context.write(f"root/{path}", Path(path).read_bytes(), 0o755)
    context.write("root/etc/passwd", "root:x:0:0::/:/bin/sh\n")
    return context


def fingerprint(key: Path) -> str:
    """What `ssh-add -l` says of a key."""
    said = subprocess.run(["ssh-keygen", "-lf", f"{key}.pub"], capture_output=True, text=True, check=True).stdout
    return said.split()[1]


def listing(lister: Context, *flags: str, env: dict[str, str] | None = None, code: int | None = 0) -> str:
    """What a step sees in its agent."""
    lister.write("Dockerfile", LIST.format(flags="", what="-l"))
    argv = (WHERRY, "build", "--progress=plain", "--no-cache", *flags, str(lister.directory))
    return lister.engine.run(*argv, env=env, code=code).err


def test_a_step_lists_the_keys_of_the_clients_agent(lister: Context, agent: str, key: Path) -> None:
    """The agent of SSH_AUTH_SOCK, and one that is named by its socket; a second agent has an id of its own."""
    assert fingerprint(key) in listing(lister, "--ssh", "default", env={"SSH_AUTH_SOCK": agent})
    assert fingerprint(key) in listing(lister, "--ssh", f"default={agent}")
    lister.write("Dockerfile", LIST.format(flags="", what="-l").replace("type=ssh", "type=ssh,id=two,required"))
    done = lister.engine.run(WHERRY, "build", "--progress=plain", "--ssh", f"two={agent}", str(lister.directory))
    assert fingerprint(key) in done.err
    done = lister.engine.run(WHERRY, "build", "--no-cache", "--ssh", f"one={agent}", str(lister.directory), code=1)
    assert "unset ssh forward key two" in done.err


def test_the_agent_is_reached_over_tcp_and_ssh(
    lister: Context, agent: str, key: Path, second: Second, tmp_path: Path
) -> None:
    """Engines on other machines: the socket is the client's all the same."""
    over_tcp = {"WHERRY_HOST": second.tcp}
    assert fingerprint(key) in listing(lister, "--ssh", f"default={agent}", env=over_tcp)
    program, remote = tmp_path / "bin/ssh", tmp_path / "remote/wherry"
    for path, text in ((program, FAKE_SSH), (remote, f'#!/bin/sh\nWHERRY_HOST={second.host} exec {BIN}/wherry "$@"\n')):
        path.parent.mkdir()
        path.write_text(text)
        path.chmod(0o755)
    over_ssh = {
        "WHERRY_HOST": "ssh://far.example",
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "SSH_LOG": str(tmp_path / "ssh.log"),
        "SSH_BIN": str(remote.parent),
    }
    assert fingerprint(key) in listing(lister, "--ssh", f"default={agent}", env=over_ssh)


def test_keys_given_as_files_have_an_agent_for_the_build(
    lister: Context, key: Path, tmp_path: Path, engine: EngineProcess
) -> None:
    """OpenSSH's agent, for the time of the build; a file that is no key is refused in ssh-add's words."""
    assert fingerprint(key) in listing(lister, "--ssh", f"default={key}")
    left = subprocess.run(["pgrep", "-af", "wherry-ssh-"], capture_output=True, text=True, check=False).stdout
    assert "ssh-agent" not in left
    (tmp_path / "nokey").write_text("no key\n")
    (tmp_path / "nokey").chmod(0o600)
    assert "failed to add" in listing(lister, "--ssh", f"default={tmp_path}/nokey", code=None)
    assert "could not parse ssh" in listing(lister, "--ssh", f"default={tmp_path}/none", code=None)
    nowhere = listing(lister, "--ssh", f"default={key}", env={"PATH": "/nowhere"}, code=None)
    assert "not installed" in nowhere


def test_nothing_of_a_key_or_socket_stays(lister: Context, agent: str, key: Path, engine: EngineProcess) -> None:
    """Neither private nor public key is in a layer, a log, or a file of the engine; the socket is in no layer."""
    lister.write("Dockerfile", LIST.format(flags="", what="-L"))
    run = 'RUN --mount=type=ssh,mode=0666,uid=7 ["/usr/bin/ssh-add", "-qL"]\n'
    lister.write("Dockerfile", f"FROM scratch\nCOPY root /\n{run}")
    engine.run(WHERRY, "build", "-q", "-t", "agentless", "--ssh", f"default={key}", str(lister.directory))
    secret = "".join(key.read_text().splitlines()[1:3])[20:60]
    assert places_with(secret, engine.roots.data, engine.roots.run, str(engine.log)) == []
    listed = engine.docker("image", "save", "agentless").code
    assert listed == 0
    build(lister, "FROM agentless AS built\nFROM busybox\nCOPY --from=built / /b\nRUN find /b > /list\n", "-t", "seen")
    assert "ssh_agent" not in lister.run("seen", "cat", "/list")
    assert not [path for path in Path(engine.roots.run, "build").rglob("*") if path.is_socket()]
