"""Addresses that a Dockerfile or a caller may give in place of files: downloads and git repositories.

An address is judged before anything is asked of it: only http, https, ssh and git over the network, no `ext::`, no
option in disguise, no reference or directory that leads elsewhere (CVE-2019-13139, CVE-2026-33748).
"""

import posixpath
import re
from urllib.parse import SplitResult, unquote, urlsplit

from wherry.builder.graph.operations import GitSource, HttpSource
from wherry.errors import InvalidArgument

_SCP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*@[A-Za-z0-9][A-Za-z0-9.-]*:(?!//)[^#\s]+(#.*)?\Z")
# RFC 3986's authority without what git, curl and urllib read in different ways: a second `@`, `\\`, escapes in a host.
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|\w[\w.-]*)(?::[0-9]{1,5})?\Z"
_HTTP = re.compile(rf"(?:(?!-)[\w.~!$&'()*+,;=:%-]*@)?{_HOST}")
# Git decodes these addresses before it takes them apart, so that an escape could end the host; a colon in the user
# hides the port.
_SSH = re.compile(rf"(?:\w[\w.~!$&'()*+,;=-]*@)?{_HOST}")
_GIT = re.compile(_HOST)
_AUTHORITIES = {"http": _HTTP, "https": _HTTP, "ssh": _SSH, "git": _GIT}
_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+@{}^~-]*\Z")
_BAD_REF = re.compile(r"\.\.|//|@\{|\.lock(?:/|\Z)|\Z(?<=[/.])")
_ELSEWHERE = "@["
"""Git looks for this in the path, too, and takes what follows for the host."""
_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}\Z")
_COMMIT = re.compile(r"[0-9a-f]{7,64}\Z")


def is_http(text: str) -> bool:
    """Whether it is a download."""
    return text.startswith(("http://", "https://")) and not is_git(text)


def is_git(text: str) -> bool:
    """Whether it is a git repository: `git://`, `ssh://`, `user@host:path`, or http with a path that ends in `.git`.

    A `.git` in the query or the fragment does not count, as in BuildKit's `gitutil.ParseGitRef`.
    """
    if text.startswith(("git://", "ssh://")) or _SCP.match(text):
        return True
    if not text.startswith(("http://", "https://")):
        return False
    try:
        return urlsplit(text).path.endswith(".git")
    except ValueError:
        return False


def _split(text: str) -> SplitResult:
    try:
        return urlsplit(text)
    except ValueError:  # brackets that are no IPv6 address, …
        raise InvalidArgument(f"invalid address {text!r}") from None


def git_source(text: str, *, keep_git: bool = False, checksum: str = "") -> GitSource:
    """Read `address#ref:directory`. In a URL the part behind the `#` may be percent-encoded, as Go's net/url reads it.

    Raises:
        InvalidArgument: an address, reference or directory that is none.
    """
    address, _, fragment = text.partition("#")
    scheme, found, rest = address.partition("://")
    if _CONTROL.search(text) or address.startswith("-"):
        raise InvalidArgument(f"invalid git address {text!r}")
    if found or not _SCP.match(address):
        authority = _AUTHORITIES.get(scheme)
        if authority is None or not authority.match(rest.partition("/")[0]) or _BAD_ESCAPE.search(text):
            raise InvalidArgument(f"invalid git address {text!r}")
        if scheme in ("ssh", "git") and (not rest.partition("/")[1] or _ELSEWHERE in unquote(rest.partition("/")[2])):
            raise InvalidArgument(f"invalid git address {text!r}")
        _split(address)  # a host with a character that Unicode takes for `/`, `@`, …
        fragment = unquote(fragment, errors="surrogateescape")
    elif _ELSEWHERE in address:
        raise InvalidArgument(f"invalid git address {text!r}")
    ref, _, subdir = fragment.partition(":")
    if ref and (not _REF.match(ref) or _BAD_REF.search(ref)):
        raise InvalidArgument(f"invalid git reference {ref!r}")
    clean = posixpath.normpath("/" + subdir).lstrip("/") if subdir else ""
    if "\0" in subdir or any(part == ".." for part in subdir.split("/")) or ".git" in clean.split("/"):
        raise InvalidArgument(f"invalid git directory {subdir!r}")
    if checksum and not _COMMIT.match(checksum):
        raise InvalidArgument(f"invalid checksum {checksum!r} for Git source: expected a commit")
    return GitSource(address, ref, clean, keep_git, checksum)


def http_source(url: str, *, checksum: str = "", directory: bool = True) -> HttpSource:
    """Read a download's address.

    Args:
        url: the address.
        checksum: `sha256:<hex>`, or "".
        directory: the file keeps its own name, which must then be told by the address.

    Raises:
        InvalidArgument: it is none, or names no file.
    """
    if _CONTROL.search(url):
        raise InvalidArgument(f"invalid address {url!r}")
    parts = _split(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidArgument(f"invalid address {url!r}")
    if checksum and not _CHECKSUM.match(checksum):
        raise InvalidArgument(f"invalid checksum digest format: {checksum!r}")
    name = posixpath.basename(unquote(parts.path))
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        if directory:
            raise InvalidArgument(f"cannot determine filename for source {url}")
        name = "download"
    return HttpSource(url, name, checksum)
