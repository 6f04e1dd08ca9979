"""Git checkouts by the `git` program, which is told nothing that a stranger could make into an option or a program.

Only the network protocols (`GIT_ALLOW_PROTOCOL`): no `ext::`, no local paths, no submodule from elsewhere; no hooks, no
configuration of the user's, no prompts. Git runs in a box (`box.py`) whose only way out is a relay (`relay.py`), which
reaches what a build may reach. A credential is for the origin that was asked for: neither for a submodule of another
host, nor for where a redirect leads. An ssh server is one whose key is known. What was checked out is moved as a whole,
a link in it is a link.
"""

import asyncio
import base64
import json
import os
import shutil
import signal
import socket
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from wherry.builder.contexts import box
from wherry.builder.contexts.relay import Relay
from wherry.builder.graph.operations import GitSource
from wherry.distribution import reach
from wherry.distribution.reach import Reach
from wherry.errors import InvalidArgument, NotFound, NotSupported, Unavailable

Output = Callable[[int, bytes], None]
_SECONDS = 600.0
_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/root/.ssh/known_hosts")
_SSH = (
    f"ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile={box.KNOWN_HOSTS} "
    f"-o GlobalKnownHostsFile=/dev/null -o UpdateHostKeys=no -o ProxyCommand='{box.CONNECT} %h %p'"
)
_CODE = "import sys; sys.path[:] = {path!r}; from wherry.builder.contexts.box import main; main()"
_SAFE = (
    "protocol.ext.allow=never",
    "protocol.file.allow=never",
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.symlinks=true",
    f"core.gitProxy={box.CONNECT}",
    "fetch.fsckObjects=true",
    "transfer.fsckObjects=true",
    "credential.helper=",
    f"http.proxy=socks5h://127.0.0.1:{box.PORT}",
    "advice.detachedHead=false",
    "init.defaultBranch=main",
)


class Outside:
    """What the engine's owner says of other hosts.

    Args:
        may_reach: which of them builds may reach.
        known_hosts: a file of ssh host keys in place of the machine's own; "" for these.
    """

    def __init__(self, may_reach: Reach, known_hosts: str = "") -> None:
        self.reach = may_reach
        self.known_hosts = (known_hosts,) if known_hosts else _KNOWN_HOSTS


def outside(builder: Mapping[str, Any]) -> Outside:
    """What daemon.json's `builder` says: `allowed-hosts`, `known-hosts`.

    Raises:
        InvalidArgument: one of them is not what it should be.
    """
    known = builder.get("known-hosts", "")
    if not isinstance(known, str) or (known and not os.path.isabs(known)):
        raise InvalidArgument("daemon.json: builder.known-hosts is no absolute path")
    return Outside(reach.settings(builder), known)


async def checkout(
    op: GitSource,
    path: str,
    output: Output,
    may: Outside,
    *,
    agents: Mapping[str, str],
    secrets: Mapping[str, bytes],
) -> str:
    """Check out a repository.

    Args:
        op: an address that `remotes.git_source` has judged.
        path: an empty directory; the repository is made in it.
        output: takes what git says.
        may: which hosts may be reached, and which keys of theirs are known.
        agents: sockets of ssh agents by id.
        secrets: `GIT_AUTH_TOKEN`, `GIT_AUTH_HEADER` (or with `.host`).

    Returns:
        the directory that is meant: `path`, or one below it.

    Raises:
        NotSupported: there is no git on this machine.
        Unavailable: git could not do it; its words.
        NotFound: no such directory in the checkout.
        InvalidArgument: the checkout is not the commit that was asked for.
    """
    program = shutil.which("git")
    if program is None:
        raise NotSupported("git is not installed on the engine's machine")
    scheme = op.url.partition("://")[0] if "://" in op.url else "ssh"
    async with Relay(may.reach, scheme) as relay:
        git = _Git(program, path, output, relay, may.known_hosts, agents.get("default", ""), _settings(op, secrets))
        await git("init", "-q")
        await git("remote", "add", "--", "origin", op.url)
        target = await _fetched(git, op, relay)
        await git("checkout", "-q", "--force", target, "--")
        if op.checksum:
            commit = (await git("rev-parse", "HEAD")).decode().strip()
            if not commit.startswith(op.checksum):
                raise InvalidArgument(f"expected checksum to match {op.checksum}, got {commit}")
        if os.path.lexists(f"{path}/.gitmodules"):
            await git("submodule", "update", "-q", "--init", "--recursive", "--depth=1")
    if not op.keep_git:
        await asyncio.to_thread(shutil.rmtree, f"{path}/.git", ignore_errors=True)
    await asyncio.to_thread(_own, path)
    return _inside(path, op.subdir)


async def _fetched(git: "_Git", op: GitSource, relay: Relay) -> str:
    """Fetch what is meant, and as little else as the server can do; what it is called by then."""
    ref = op.ref or "HEAD"
    try:
        await git("fetch", "-q", "--depth=1", "--no-tags", "--", "origin", ref)
    except Unavailable:
        if relay.refusals:
            raise
        try:
            await git("fetch", "-q", "--no-tags", "--", "origin", ref)  # a server of plain files: no history is cut off
        except Unavailable:
            if not op.ref:
                raise
            # a server that gives no single commit: all of it, and then the commit
            await git("fetch", "-q", "--tags", "--", "origin")
            return (await git("rev-parse", "--verify", "-q", f"{op.ref}^{{commit}}")).decode().strip()
    return "FETCH_HEAD"


def _own(path: str) -> None:
    """Give what git made to root."""
    for _, names, files, fd in os.fwalk(path):
        os.chown(fd, 0, 0)
        for name in (*names, *files):
            os.chown(name, 0, 0, dir_fd=fd, follow_symlinks=False)


def _inside(path: str, subdir: str) -> str:
    """The directory below the checkout, no link on the way (CVE-2026-33748)."""
    here = path
    for part in subdir.split("/") if subdir else ():
        here = f"{here}/{part}"
        try:
            mode = os.lstat(here).st_mode
        except FileNotFoundError:
            raise NotFound(f"the repository has no directory {subdir}", path=subdir) from None
        if not stat.S_ISDIR(mode):
            raise InvalidArgument(f"{subdir} in the repository is not a directory", path=subdir)
    return here


def _settings(op: GitSource, secrets: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """Git's settings for one repository: a credential for its origin alone, which is then not led elsewhere."""
    values = [(key, value) for key, _, value in (line.partition("=") for line in _SAFE)]
    header = _header(op, secrets)
    secret = bool(header) or "@" in op.url.partition("://")[2].partition("/")[0]
    values.append(("http.followRedirects", "false" if secret else "initial"))
    if header:
        values.append((f"http.https://{_host(op.url)}/.extraHeader", header))
    return values


def _host(url: str) -> str:
    """Host and port of an address."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _header(op: GitSource, secrets: Mapping[str, bytes]) -> str:
    """A header with the caller's credential for that host.

    Raises:
        InvalidArgument: the secret cannot stand in a header.
    """
    if not op.url.startswith("https://"):
        return ""
    host = _host(op.url)
    for name in (f"GIT_AUTH_HEADER.{host}", "GIT_AUTH_HEADER"):
        if name in secrets:
            value = secrets[name].decode("latin-1").strip()
            if not value.isascii() or not value.isprintable():
                raise InvalidArgument(f"secret {name} is not a valid header: it must be one line of printable ASCII")
            return f"Authorization: {value}"
    for name in (f"GIT_AUTH_TOKEN.{host}", "GIT_AUTH_TOKEN"):
        if name in secrets:
            token = base64.b64encode(b"x-access-token:" + secrets[name].strip()).decode()
            return f"Authorization: basic {token}"
    return ""


def _set(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


class _Git:
    """Runs git on one directory, each time in a box of its own.

    Args:
        program: git.
        path: the directory.
        output: takes what git says.
        relay: serves the box.
        known: files of ssh host keys.
        agent: the socket of an ssh agent, or "".
        settings: git's.
    """

    def __init__(
        self,
        program: str,
        path: str,
        output: Output,
        relay: Relay,
        known: Sequence[str],
        agent: str,
        settings: Sequence[tuple[str, str]],
    ) -> None:
        self._asked = {"directory": path, "agent": agent, "known": list(known)}
        self._program = program
        self._output = output
        self._relay = relay
        self._env = {
            "PATH": "/usr/bin:/bin",
            "HOME": "/nonexistent",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "/bin/true",
            "GIT_ALLOW_PROTOCOL": "http:https:git:ssh",
            "GIT_SSH_COMMAND": _SSH,
            "LC_ALL": "C",
            **({"SSH_AUTH_SOCK": box.AGENT} if agent else {}),
            "GIT_CONFIG_COUNT": str(len(settings)),
        }
        # in the environment: the words of a program can be read by everybody
        for index, (key, value) in enumerate(settings):
            self._env[f"GIT_CONFIG_KEY_{index}"], self._env[f"GIT_CONFIG_VALUE_{index}"] = key, value

    async def __call__(self, *words: str) -> bytes:
        """Run one command; what it printed.

        Raises:
            Unavailable: it failed; its words, and whom it could not reach.
        """
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                process = await self._execute(words, theirs.fileno())
            try:
                async with asyncio.timeout(_SECONDS):
                    ours.setblocking(False)
                    serving = asyncio.ensure_future(self._serve(ours))
                    out, err = await process.communicate()
                    await serving
            except TimeoutError:
                raise Unavailable(f"git {words[0]}: not done within {_SECONDS:.0f} seconds") from None
            finally:
                serving.cancel()
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    await process.wait()
        if err:
            self._output(2, err)
        if process.returncode:
            text = err.decode("utf-8", "replace").strip()[-2000:] or f"exit code {process.returncode}"
            refused = "".join(f"; {line}" for line in dict.fromkeys(self._relay.refusals[-4:]))
            raise Unavailable(f"git {words[0]}: {text}{refused}")
        return out

    async def _execute(self, words: Sequence[str], control: int) -> asyncio.subprocess.Process:
        asked = {**self._asked, "git": [self._program, *words], "control": control}
        path = [os.path.abspath(entry) for entry in sys.path if entry]
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            "-c",
            _CODE.format(path=path),
            json.dumps(asked),
            cwd="/",
            env=self._env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(control,),
            start_new_session=True,
        )

    async def _serve(self, control: socket.socket) -> None:
        """Wait for the box's listening socket, and serve it."""
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(control, _set, ready)
        try:
            await ready
        finally:
            loop.remove_reader(control)
        _, fds, _, _ = socket.recv_fds(control, 1, 1)
        if fds:
            await self._relay.serve(socket.socket(fileno=fds[0]))
