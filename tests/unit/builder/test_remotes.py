"""Addresses in place of files: what is a repository, what a download, and what only pretends to be (CVE-2019-13139)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.builder.contexts import checkout
from wherry.builder.graph.operations import GitSource
from wherry.builder.graph.remotes import git_source, http_source, is_git, is_http
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
        "https://evil.com?@good.com/x.git",
        "https://evil.com\\@good.com/x.git",
        "https://a@b@h/x.git",
        "https://-o@h/x.git",
        "https://h:8o/x.git",
        "https://h%2e.com/x.git",
        "https://h/x.git#main:a%zz",
        "https://h/x.git#%2d-upload-pack=x",
        "https://h/x.git#main:%2e%2e/x",
        "https://h/x.git#main:a%00b",
        "https://h/x.git#main:%2egit",
        "ssh://good.com%2f@evil.com/x.git",
        "ssh://%2doProxyCommand=x/y.git",
        "ssh://h:22x/y.git",
        "git://user@h/x.git",
        "git://evil.com?@good.com/x.git",
        "git@h:x://y.git",
        "git@good.com:x@[evil.com]:y.git",
        "ssh://good.com/x@[evil.com]/y.git",
        "ssh://good.com/x%40%5Bevil.com]/y.git",
        "git://good.com/x@[evil.com]/y.git",
        "ssh://h",
        "ssh://user:pw@h:22/x.git",
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
    assert is_git("https://h/x.git?a=b#c") and not is_git("https://h?@g/x#a.git") and not is_git("https://h/x?a=.git")
    op = git_source("https://u:p%40@h:8443/x.git#refs%2Fheads%2Fa:a%20b")
    assert (op.url, op.ref, op.subdir) == ("https://u:p%40@h:8443/x.git", "refs/heads/a", "a b")
    assert git_source("git@h:x.git#main:a%20b").subdir == "a%20b"
    assert http_source("https://h/d/x%20y.tar?q=1").name == "x y.tar"


def test_a_token_is_chosen_by_the_host_that_it_is_sent_to() -> None:
    secrets = {"GIT_AUTH_TOKEN.good.com": b"good", "GIT_AUTH_TOKEN.evil.com": b"evil"}
    for url in ("https://evil.com?@good.com/x", "https://evil.com/x.git?@good.com/", "https://good.com@evil.com/x.git"):
        header = checkout._header(GitSource(url), secrets)
        assert header == checkout._header(GitSource("https://evil.com/"), secrets)


@pytest.mark.parametrize("value", [b"\xff", b"basic a\r\nHost: b", b"a\0b"])
def test_a_header_that_is_not_one_line_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidArgument, match="secret GIT_AUTH_HEADER is not a valid header"):
        checkout._header(GitSource("https://h/x.git"), {"GIT_AUTH_HEADER": value})


PIECES = ["https://", "http://", "git://", "ssh://", "git@", ".git", *"ab.:/[]#?%\\@-+é \x00\n"]


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
@settings(max_examples=500, deadline=None)
def test_any_address_is_read_or_refused(address: str) -> None:
    try:
        judge(address)
    except InvalidArgument:
        return
    assert address.startswith(("https://", "http://", "git://", "ssh://")) or "@" in address
