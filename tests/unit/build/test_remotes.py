"""Addresses in place of files: what is a repository, what a download, and what only pretends to be (CVE-2019-13139)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.build.graph.remotes import git_source, http_source, is_git, is_http
from wherry.errors import InvalidArgument


def judge(address: str) -> None:
    """Read an address as the builder does."""
    if is_git(address):
        git_source(address)
    elif is_http(address):
        http_source(address)
    else:
        raise InvalidArgument("no address")


@pytest.mark.parametrize(
    "address",
    [
        "git://-oProxyCommand=touch/x.git",
        "ssh://-oProxyCommand=touch%20x/y.git",
        "ssh://-oProxyCommand@h/y.git",
        "git@-oProxyCommand=x:y.git",
        "-oProxyCommand=x@h:y.git",
        "https://h/x.git#--upload-pack=touch",
        "https://h/x.git#-b",
        "https://h/x.git#a..b",
        "https://h/x.git#a@{1}",
        "https://h/x.git#main:../..",
        "https://h/x.git#main:a/../../..",
        "https://h/x.git#main:.git",
        "https://h/x.git#main:a/.git/hooks",
        "https://h/x\n.git",
        "https://h/x.git#a\nb",
        "git://h/x.git#ref with blank",
        "ext::sh -c touch% x",
        "ext::https://h/x.git",
        "file:///etc/.git",
        "/etc/.git",
        "--upload-pack=x.git",
        "http:///x",
        "http://h/..",
        "http://h/a\x00b",
        "gopher://h/x",
        "https://[x/y",
        "https://[x/y.git",
        "git://[x/y.git",
        "ssh://a]b/y",
    ],
)
def test_refused(address: str) -> None:
    with pytest.raises(InvalidArgument):
        judge(address)


def test_read() -> None:
    op = git_source("https://h/x.git#v1.2/rc:a/b")
    assert (op.url, op.ref, op.subdir) == ("https://h/x.git", "v1.2/rc", "a/b")
    assert is_git("git@github.com:a/b.git") and is_git("ssh://git@h/a/b") and is_git("git://h/a")
    assert is_http("https://h/x.tar.gz") and not is_http("https://h/x.git") and not is_git("a/b.git")
    assert http_source("https://h/d/x%20y.tar?q=1").name == "x y.tar"


PIECES = ["https://", "http://", "git://", "ssh://", "git@", ".git", *"ab.:/[]#?%\\@-+é \x00\n"]


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
@settings(max_examples=500, deadline=None)
def test_any_address_is_read_or_refused(address: str) -> None:
    try:
        judge(address)
    except InvalidArgument:
        return
    assert address.startswith(("https://", "http://", "git://", "ssh://")) or "@" in address
