"""Random addresses of repositories: git reads an accepted one as we do, and nothing of it becomes an option of git's.

The readers to compare with are git itself (`fetch-pack --diag-url`, `config --get-urlmatch`), RFC 3986 written down as
one expression, and BuildKit's rules (`util/gitutil`) for what is a reference and what a directory.
"""

import asyncio
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar
from unittest import mock
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz.test_fuzz import ROUND, for_a_while
from wherry.builder.contexts import checkout as checkouts
from wherry.builder.graph.operations import GitSource
from wherry.builder.graph.remotes import git_source, http_source, is_git, is_http
from wherry.errors import InvalidArgument, NotFound, Unavailable

pytestmark = pytest.mark.root

_AUTHORITY = re.compile(r"(?:(?P<user>[^@]*)@)?(?P<host>\[[^\[\]@]*\]|[^:\[\]@]*)(?::(?P<port>[0-9]*))?")
_HOSTS = ["good.com", "evil.com", "good.com:8443"]
_PIECES = st.sampled_from(
    (
        *("https://", "http://", "ssh://", "git://", "git@", "ext::", "file://", "HTTPS://", "-oProxyCommand=x", "--"),
        *(*_HOSTS, "[::1]", ":22", ":", "@", "/", "//", "?", "#", "\\", "%2f", "%40", "%2d", "%23", "%00", "%0a", "%"),
        *(
            "user",
            "user:pw@",
            "x.git",
            ".git",
            "..",
            "main",
            "refs/heads/a",
            "+",
            "^{}",
            "é",
            "。",
            "℀",
            " ",
            "\n",
            "\0",
        ),
        *("a b", "@[", "]", "%5b", "a%20b", "%2e%2e", ".GIT", "~", "=", "&"),
    )
)
_FREE = st.lists(_PIECES, max_size=9).map("".join)
_LIKELY = st.builds(
    lambda scheme, user, host, rest, path, fragment: f"{scheme}{user}{host}{rest}{path}{fragment}",
    st.sampled_from(["https://", "https://", "http://", "ssh://", "git://", "git@", ""]),
    st.sampled_from(["", "", "user@", "user:pw@", "good.com@", "good.com:x@", "good.com%2f@", "good.com?@", "-o@"]),
    st.sampled_from([*_HOSTS, "-oX", "%2doX", "[::1]", "evil.com?@good.com", "evil.com\\@good.com"]),
    st.lists(_PIECES, max_size=2).map("".join),
    st.sampled_from(["/x.git", "/x", "/x.git?a=b", ":x.git", "/../x.git"]),
    st.just("") | st.lists(_PIECES, max_size=5).map(lambda pieces: "#" + "".join(pieces)),
)
_SECRETS = {f"GIT_AUTH_TOKEN.{host}": host.encode() for host in _HOSTS}


_repository: list[str] = []


def _git(*words: str) -> list[str]:
    """The lines that git prints, in an empty repository."""
    env = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "LC_ALL": "C"}
    done = subprocess.run(["git", *words], capture_output=True, env=env, cwd=_repository[0], check=False)
    return done.stdout.decode("utf-8", "surrogateescape").splitlines()


def _of_buildkit(text: str) -> tuple[str, str]:
    """The reference and the directory that an address names."""
    fragment = text.partition("#")[2]
    ref, _, subdir = (unquote(fragment) if re.match("[A-Za-z0-9]+://", text) else fragment).partition(":")
    return ref, subdir


def _read_by_git(op: GitSource) -> None:
    """Git connects to the host that the address names, and that is none of its own options."""
    told = dict(line.removeprefix("Diag: ").partition("=")[::2] for line in _git("fetch-pack", "--diag-url", op.url))
    scheme, found, rest = op.url.partition("://")
    authority = rest.partition("/")[0] if found else op.url.partition(":")[0]
    parts = _AUTHORITY.fullmatch(authority)
    assert parts is not None
    user, host, port = parts["user"], parts["host"], parts["port"]
    assert host and not host.startswith("-") and not (user or "").startswith("-")
    if scheme == "git":
        assert told["protocol"] == "git"
        assert told["hostandport"] == authority
        return
    assert told["protocol"] == "ssh"
    assert told["userandhost"] == (f"{user}@" if user else "") + host.strip("[]")
    assert told["port"] == (port or "NONE")


def _bound(op: GitSource) -> None:
    """A token goes to the host that it is for, as RFC 3986, our settings and git say."""
    parts = _AUTHORITY.fullmatch(re.split(r"[/?#\\]", op.url.partition("://")[2])[0])
    assert parts is not None
    host = parts["host"] + (f":{parts['port']}" if parts["port"] else "")
    settings = checkouts._settings(op, _SECRETS)
    headers = [(key, value) for key, value in settings if key.endswith(".extraHeader")]
    if not op.url.startswith("https://") or host not in _HOSTS:
        assert not headers
        return
    wanted = checkouts._header(GitSource(f"https://{host}/"), {"GIT_AUTH_TOKEN": host.encode()})
    assert headers == [(f"http.https://{host}/.extraHeader", wanted)]
    assert ("http.followRedirects", "false") in settings
    (key, value), other = headers[0], _HOSTS[host == _HOSTS[0]]
    matched = _git("-c", f"{key}={value}", "config", "--get-urlmatch", "http.extraHeader", op.url)
    assert matched == [value] or (not matched and ".." in op.url)  # above the root: git sends it nothing
    assert not _git("-c", f"{key}={value}", "config", "--get-urlmatch", "http.extraHeader", f"https://{other}/x")


class _Recorder:
    """In place of git: what it would have been called with. A server that gives no single reference."""

    calls: ClassVar[list[tuple[str, ...]]] = []

    def __init__(self, *_: Any) -> None:
        self.calls.clear()

    async def __call__(self, *words: str) -> bytes:
        self.calls.append(words)
        if words[0] == "fetch" and words[-1] != "origin":
            raise Unavailable("no such reference")
        return b"0" * 40


_OURS = re.compile(r"--?[a-z-]+(=1)?|[a-z-]+|0{40}|HEAD")


async def _called(op: GitSource) -> None:
    """No word of the address's stands where git looks for options; a reference is one, and no more."""
    with tempfile.TemporaryDirectory(prefix="wherry-fuzz-") as path, mock.patch.object(checkouts, "_Git", _Recorder):
        try:
            await checkouts.checkout(
                op, path, lambda _stream, _data: None, checkouts.outside({}), agents={}, secrets={}
            )
        except (NotFound, Unavailable, InvalidArgument):
            pass
    assert _Recorder.calls
    for words in _Recorder.calls:
        end = words.index("--") if "--" in words else len(words)
        for word in words[:end]:
            assert (op.ref and word == f"{op.ref}^{{commit}}") or _OURS.fullmatch(word)
        for word in words[end + 1 :]:
            assert word in ("origin", op.url, op.ref or "HEAD")
    assert not op.ref.startswith(("-", "+")) and not set(op.ref) & set(": *?[\\\n\0")
    assert not op.url.startswith("-")


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except InvalidArgument:
        pass


@ROUND
@given(_LIKELY | _LIKELY | _FREE)
@example("https://evil.com?@good.com/x#a.git")
@example("https://evil.com\\@good.com/x.git")
@example("https://good.com@evil.com/x.git#main:a%20b")
@example("ssh://good.com%2f@evil.com/x.git")
@example("ssh://%2doX/x.git")
@example("ssh://good.com:22x/x.git")
@example("git://evil.com?@good.com/x.git")
@example("git://user@good.com/x.git")
@example("git@evil.com:x://y.git")
@example("git@good.com:x@[evil.com]:y.git")
@example("ssh://good.com/x%40%5Bevil.com]/y.git")
@example("ssh://good.com")
@example("ssh://user:pw@good.com:8443/x.git")
@example("https://good.com/x.git#refs%2Fheads%2Fmain:%2e%2e/x")
@example("https://good.com:8443/x.git#%2d-upload-pack=x")
def _remotes(address: str) -> None:
    assert not (is_git(address) and is_http(address))
    if is_http(address):
        with _refusing():
            http_source(address)
    if not is_git(address):
        return
    try:
        op = git_source(address)
    except InvalidArgument:
        return
    ref, subdir = _of_buildkit(address)
    assert op.url == address.partition("#")[0]
    assert op.ref == ref
    assert op.subdir == "/".join(part for part in subdir.split("/") if part not in ("", "."))
    assert not {"..", ".git"} & set(op.subdir.split("/"))
    if op.url.startswith(("https://", "http://")):
        _bound(op)
    else:
        _read_by_git(op)
    asyncio.run(_called(op))


def test_remotes() -> None:
    """An address of a repository is refused, or means one host to us and to git, and gives git no option."""
    with tempfile.TemporaryDirectory(prefix="wherry-fuzz-") as path:
        _repository[:] = [path]
        _git("init", "-q")
        for_a_while(_remotes)
