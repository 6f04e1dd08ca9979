"""Git checkouts by the `git` program, which is told nothing that a stranger could make into an option or a program.

Only the network protocols (`GIT_ALLOW_PROTOCOL`): no `ext::`, no local paths, no submodule from elsewhere; no hooks, no
configuration of the user's, no prompts. What was checked out is moved as a whole, a link in it is a link.
"""

import asyncio
import base64
import os
import shutil
import stat
from collections.abc import Callable, Mapping

from wherry.build.graph.operations import GitSource
from wherry.errors import InvalidArgument, NotFound, NotSupported, Unavailable

Output = Callable[[int, bytes], None]
_SECONDS = 600.0
_SAFE = (
    "protocol.ext.allow=never",
    "protocol.file.allow=never",
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.symlinks=true",
    "fetch.fsckObjects=true",
    "transfer.fsckObjects=true",
    "credential.helper=",
    "http.followRedirects=initial",
    "advice.detachedHead=false",
    "init.defaultBranch=main",
)


async def checkout(
    op: GitSource, path: str, output: Output, *, agents: Mapping[str, str], secrets: Mapping[str, bytes]
) -> str:
    """Check out a repository.

    Args:
        op: an address that `remotes.git_source` has judged.
        path: an empty directory; the repository is made in it.
        output: takes what git says.
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
    git = _Git(program, path, output, _environment(agents), _header(op, secrets))
    await git("init", "-q")
    await git("remote", "add", "--", "origin", op.url)
    await git("fetch", "-q", "--depth=1", "--no-tags", "--", "origin", op.ref or "HEAD", fallback=op.ref)
    await git("checkout", "-q", "--force", "FETCH_HEAD", "--")
    if op.checksum:
        commit = (await git("rev-parse", "HEAD")).decode().strip()
        if not commit.startswith(op.checksum):
            raise InvalidArgument(f"expected checksum to match {op.checksum}, got {commit}")
    if os.path.exists(f"{path}/.gitmodules"):
        await git("submodule", "update", "-q", "--init", "--recursive", "--depth=1")
    if not op.keep_git:
        shutil.rmtree(f"{path}/.git", ignore_errors=True)
    return _inside(path, op.subdir)


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


def _environment(agents: Mapping[str, str]) -> dict[str, str]:
    found = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/true",
        "GIT_ALLOW_PROTOCOL": "http:https:git:ssh",
        "GIT_SSH_COMMAND": "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=accept-new",
        "LC_ALL": "C",
    }
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"):
        if name in os.environ:
            found[name] = os.environ[name]
    if "default" in agents:
        found["SSH_AUTH_SOCK"] = agents["default"]
    return found


def _header(op: GitSource, secrets: Mapping[str, bytes]) -> str:
    """A header with the caller's credential, for that host only."""
    if not op.url.startswith("https://"):
        return ""
    host = op.url.removeprefix("https://").partition("/")[0].rpartition("@")[2]
    for name in (f"GIT_AUTH_HEADER.{host}", "GIT_AUTH_HEADER"):
        if name in secrets:
            return f"Authorization: {secrets[name].decode().strip()}"
    for name in (f"GIT_AUTH_TOKEN.{host}", "GIT_AUTH_TOKEN"):
        if name in secrets:
            token = base64.b64encode(b"x-access-token:" + secrets[name].strip()).decode()
            return f"Authorization: basic {token}"
    return ""


class _Git:
    """Runs git in one directory."""

    def __init__(self, program: str, path: str, output: Output, env: dict[str, str], header: str) -> None:
        self._program = program
        self._path = path
        self._output = output
        self._env = dict(env)
        values = [*_SAFE]
        self._env["GIT_CONFIG_COUNT"] = str(len(values) + bool(header))
        for index, value in enumerate(values):
            key, _, text = value.partition("=")
            self._env[f"GIT_CONFIG_KEY_{index}"], self._env[f"GIT_CONFIG_VALUE_{index}"] = key, text
        if header:
            # in the environment: the words of a program can be read by everybody
            self._env[f"GIT_CONFIG_KEY_{len(values)}"] = "http.extraHeader"
            self._env[f"GIT_CONFIG_VALUE_{len(values)}"] = header

    async def __call__(self, *words: str, fallback: str = "") -> bytes:
        code, out, err = await self._run(words)
        if code and fallback and words[0] == "fetch":
            # a server that gives no single commit: all of it, and then the commit
            code, out, err = await self._run(("fetch", "-q", "--tags", "--", "origin"))
            if not code:
                code, out, err = await self._run(("fetch", "-q", "--", ".", fallback))
        if code:
            text = err.decode("utf-8", "replace").strip()
            raise Unavailable(f"git {words[0]}: {text[-2000:] or f'exit code {code}'}")
        return out

    async def _run(self, words: tuple[str, ...]) -> tuple[int, bytes, bytes]:
        process = await asyncio.create_subprocess_exec(
            self._program,
            *words,
            cwd=self._path,
            env=self._env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(_SECONDS):
                out, err = await process.communicate()
        except TimeoutError:
            raise Unavailable(f"git {words[0]}: not done within {_SECONDS:.0f} seconds") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if err:
            self._output(2, err)
        return process.returncode or 0, out, err
