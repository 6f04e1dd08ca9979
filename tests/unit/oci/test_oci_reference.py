"""Docker's reference grammar: every row was compared with what dockerd 26 answers."""

import pytest

from wherry.errors import InvalidReference
from wherry.oci import digest as digests
from wherry.oci.reference import Reference, parse_any, parse_normalized, parse_tag

A64 = "a" * 64
SHA = f"sha256:{A64}"
LOWER = "invalid reference format: repository name ({}) must be lowercase"
INVALID = "invalid reference format"

# what is typed, full form, familiar form
GOOD = [
    ("busybox", "docker.io/library/busybox", "busybox"),
    ("busybox:latest", "docker.io/library/busybox:latest", "busybox:latest"),
    ("busybox:1.36-glibc", "docker.io/library/busybox:1.36-glibc", "busybox:1.36-glibc"),
    ("library/busybox", "docker.io/library/busybox", "busybox"),
    ("docker.io/busybox", "docker.io/library/busybox", "busybox"),
    ("docker.io/library/busybox", "docker.io/library/busybox", "busybox"),
    ("index.docker.io/busybox:1", "docker.io/library/busybox:1", "busybox:1"),
    ("user/app", "docker.io/user/app", "user/app"),
    ("docker.io/user/app:2", "docker.io/user/app:2", "user/app:2"),
    ("library/user/app", "docker.io/library/user/app", "library/user/app"),
    ("hub.c.163.com/public/ubuntu:14.04", "hub.c.163.com/public/ubuntu:14.04", "hub.c.163.com/public/ubuntu:14.04"),
    ("localhost/app", "localhost/app", "localhost/app"),
    ("localhost:5000/app:t", "localhost:5000/app:t", "localhost:5000/app:t"),
    ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c"),
    ("[::1]:5000/app", "[::1]:5000/app", "[::1]:5000/app"),
    ("[fe80::1]/app:t", "[fe80::1]/app:t", "[fe80::1]/app:t"),
    ("myhost:80/app", "myhost:80/app", "myhost:80/app"),
    ("ghcr.io/owner/repo/image:v1.2.3", "ghcr.io/owner/repo/image:v1.2.3", "ghcr.io/owner/repo/image:v1.2.3"),
    ("UPPER/app", "UPPER/app", "UPPER/app"),
    ("Host.Example/app", "Host.Example/app", "Host.Example/app"),
    ("a", "docker.io/library/a", "a"),
    ("0", "docker.io/library/0", "0"),
    ("a-b", "docker.io/library/a-b", "a-b"),
    ("a--b", "docker.io/library/a--b", "a--b"),
    ("a---b", "docker.io/library/a---b", "a---b"),
    ("a_b", "docker.io/library/a_b", "a_b"),
    ("a__b", "docker.io/library/a__b", "a__b"),
    ("a.b", "docker.io/library/a.b", "a.b"),
    ("a.b/c", "a.b/c", "a.b/c"),
    ("a/b.c", "docker.io/a/b.c", "a/b.c"),
    ("app:_", "docker.io/library/app:_", "app:_"),
    ("app:A.b-C_d", "docker.io/library/app:A.b-C_d", "app:A.b-C_d"),
    ("app:" + "t" * 128, "docker.io/library/app:" + "t" * 128, "app:" + "t" * 128),
    ("a" * 63, "docker.io/library/" + "a" * 63, "a" * 63),
    ("a" * 65, "docker.io/library/" + "a" * 65, "a" * 65),
    ("g" * 64, "docker.io/library/" + "g" * 64, "g" * 64),
    ("x/" + "a" * 64, "docker.io/x/" + "a" * 64, "x/" + "a" * 64),
    (f"app@{SHA}", f"docker.io/library/app@{SHA}", f"app@{SHA}"),
    (f"app:t@{SHA}", f"docker.io/library/app:t@{SHA}", f"app:t@{SHA}"),
    (f"localhost:5000/app:t@{SHA}", f"localhost:5000/app:t@{SHA}", f"localhost:5000/app:t@{SHA}"),
    (f"app@sha512:{A64}{A64}", f"docker.io/library/app@sha512:{A64}{A64}", f"app@sha512:{A64}{A64}"),
    ("sha256:abc", "docker.io/library/sha256:abc", "sha256:abc"),
    ("xn--n3h.com/app", "xn--n3h.com/app", "xn--n3h.com/app"),
    ("a" * 240, "docker.io/library/" + "a" * 240, "a" * 240),
]

# what is typed, the words of the refusal
BAD = [
    ("", INVALID),
    (":t", INVALID),
    ("@" + SHA, INVALID),
    ("app:", INVALID),
    ("app@", INVALID),
    ("app:t:u", INVALID),
    ("app:-t", INVALID),
    ("app:.t", INVALID),
    ("app:t/x", INVALID),
    ("app:t t", INVALID),
    ("app:" + "t" * 129, INVALID),
    ("app:t\n", INVALID),
    ("app\n", INVALID),
    ("-app", INVALID),
    ("--", INVALID),
    (".app", INVALID),
    ("app.", INVALID),
    ("app-", INVALID),
    ("_app", INVALID),
    ("a..b", INVALID),
    ("a___b", INVALID),
    ("a._b", INVALID),
    ("a//b", INVALID),
    ("/a", INVALID),
    ("a/", INVALID),
    ("http://x/y", INVALID),
    ("https://ghcr.io/x", INVALID),
    ("a b", INVALID),
    ("a$b", INVALID),
    ("café", INVALID),
    ("app:é", INVALID),
    ("host:port/app", INVALID),
    ("[::1/app", INVALID),
    ("-host.com/app", INVALID),
    ("host-.com/app", INVALID),
    ("aa/asdf$$^/aa", INVALID),
    (f"app@sha256:{'a' * 31}", INVALID),
    ("app@sha256:abc", INVALID),
    (f"app@{A64}", INVALID),
    (f"app@sha256:{'g' * 64}", INVALID),
    (f"app@{SHA}:t", INVALID),
    ("FOO", LOWER.format("library/FOO")),
    ("library/FOO", LOWER.format("library/FOO")),
    ("foo/BAR:x", LOWER.format("foo/BAR")),
    ("localhost/App", LOWER.format("App")),
    ("docker.io/App", LOWER.format("library/App")),
    ("ghcr.io/Owner/x", LOWER.format("Owner/x")),
    (A64, f"invalid repository name ({A64}), cannot specify 64-byte hexadecimal strings"),
    ("a" * 256, "repository name must not be more than 255 characters"),
    (f"app@sha256:{'A' * 64}", "invalid checksum digest format"),
    (f"app@sha256:{'a' * 63}", "invalid checksum digest length"),
    (f"app@sha256:{'a' * 65}", "invalid checksum digest length"),
    (f"app@md5:{'a' * 32}", "unsupported digest algorithm"),
    (f"app@sha512:{A64}", "invalid checksum digest length"),
]


@pytest.mark.parametrize(("typed", "full", "familiar"), GOOD)
def test_good(typed: str, full: str, familiar: str) -> None:
    """A name that Docker takes has Docker's full and familiar forms, and its full form means itself."""
    reference = parse_normalized(typed)
    assert (str(reference), reference.familiar()) == (full, familiar)
    assert parse_normalized(full) == reference
    assert parse_normalized(familiar) == reference


@pytest.mark.parametrize(("typed", "words"), BAD)
def test_bad(typed: str, words: str) -> None:
    """A name that Docker refuses is refused in Docker's words."""
    with pytest.raises(InvalidReference) as caught:
        parse_normalized(typed)
    assert str(caught.value) == words


def test_defaults() -> None:
    """A name without tag and digest means `latest`; one with either is left alone."""
    assert str(parse_normalized("a").with_default_tag()) == "docker.io/library/a:latest"
    assert str(parse_normalized("a:b").with_default_tag()) == "docker.io/library/a:b"
    assert str(parse_normalized(f"a@{SHA}").with_default_tag()) == f"docker.io/library/a@{SHA}"


def test_any() -> None:
    """An id is told from a name; a short digest is a name with a tag."""
    assert parse_any(A64) == SHA
    assert parse_any(SHA) == SHA
    assert isinstance(parse_any("sha256:abc"), Reference)
    assert parse_any("abc") == Reference("docker.io", "library/abc")


def test_parts() -> None:
    """The parts of a reference are told apart."""
    reference = parse_normalized(f"localhost:5000/a/b:t@{SHA}")
    assert (reference.domain, reference.path, reference.tag, reference.digest) == ("localhost:5000", "a/b", "t", SHA)
    assert str(reference.with_digest(digests.parse(SHA))) == f"localhost:5000/a/b@{SHA}"
    assert str(reference.with_tag("u")) == "localhost:5000/a/b:u"


@pytest.mark.parametrize("tag", ["", "-a", "a b", "a:b", "a" * 129, "a\n"])
def test_bad_tag(tag: str) -> None:
    """A tag that is none is refused in Docker's words."""
    with pytest.raises(InvalidReference, match=r"^invalid tag format$"):
        parse_tag(tag)
