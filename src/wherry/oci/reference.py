"""Image names: Docker's reference grammar and its familiar short forms.

    reference  := name [":" tag] ["@" digest]
    name       := [domain "/"] component *("/" component)
    domain     := host [":" port]           host: DNS labels, an IPv4 or a bracketed IPv6 address
    component  := [a-z0-9]+ (separator [a-z0-9]+)*      separator: "." "_" "__" or dashes
    tag        := [A-Za-z0-9_][A-Za-z0-9_.-]{0,127}

What has no domain lives at `docker.io`, what has no path there in `library/`. Refusals carry Docker's words; the
`docker` command and docker-py show them as they are.
"""

import re

from wherry.errors import InvalidReference
from wherry.oci import digest as digests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

DEFAULT_DOMAIN: "Final" = "docker.io"
DEFAULT_TAG: "Final" = "latest"
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
_NAME_MAX = 255

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = rf"{_COMPONENT}(?:/{_COMPONENT})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"

_REFERENCE = re.compile(rf"(?P<domain>{_DOMAIN})/(?P<path>{_PATH})(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?")
_TAG_ONLY = re.compile(_TAG)


class Reference:
    """A parsed image name in its full form.

    Args:
        domain: registry host, with port if it has one (`docker.io`).
        path: repository below it (`library/busybox`).
        tag: tag, or None.
        digest: digest of a manifest, or None.
    """

    __slots__ = ("digest", "domain", "path", "tag")

    def __init__(self, domain: str, path: str, tag: str | None = None, digest: digests.Digest | None = None) -> None:
        self.domain = domain
        self.path = path
        self.tag = tag
        self.digest = digest

    @property
    def name(self) -> str:
        """The repository with its domain: `docker.io/library/busybox`."""
        return f"{self.domain}/{self.path}"

    @property
    def suffix(self) -> str:
        """What follows the name: `:tag`, `@digest`, both, or nothing."""
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def familiar_name(self) -> str:
        """Return the repository as a person types it: `busybox`, `user/app`, `ghcr.io/x/y`."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        first, slash, _ = self.path.partition("/")
        if slash and ("." in first or first == "localhost"):
            return self.name  # without the domain, this would be read as one
        rest = self.path.removeprefix(_OFFICIAL)
        return self.path if "/" in rest else rest

    def familiar(self) -> str:
        """Return the whole reference as a person types it: `busybox:latest`."""
        name = self.familiar_name()
        if not self.suffix and len(name) == 64 and digests.is_hex(name):
            return self.name  # alone it would be an id
        return name + self.suffix

    def with_default_tag(self) -> "Reference":
        """Return the reference itself, or with `:latest` where it has neither tag nor digest."""
        if self.tag or self.digest:
            return self
        return Reference(self.domain, self.path, DEFAULT_TAG)

    def with_tag(self, tag: str) -> "Reference":
        """Return the repository with another tag. Raises `InvalidReference` (`invalid tag format`)."""
        return Reference(self.domain, self.path, parse_tag(tag))

    def with_digest(self, digest: digests.Digest) -> "Reference":
        """Return the repository with a digest and without a tag."""
        return Reference(self.domain, self.path, None, digest)

    def __str__(self) -> str:
        return self.name + self.suffix

    def __repr__(self) -> str:
        return f"Reference({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


def parse_tag(tag: str) -> str:
    """Return `tag`, or raise `InvalidReference` (`invalid tag format`)."""
    if not _TAG_ONLY.fullmatch(tag):
        raise InvalidReference("invalid tag format")
    return tag


def parse_normalized(value: str) -> Reference:
    """Parse what a person typed; the domain and `library/` are filled in, a missing tag is not.

    Raises:
        InvalidReference: with Docker's words.
    """
    if len(value) == 64 and digests.is_hex(value):
        raise InvalidReference(f"invalid repository name ({value}), cannot specify 64-byte hexadecimal strings")
    domain, rest = _split_domain(value)
    repository = rest.partition(":")[0]
    if repository.lower() != repository:
        raise InvalidReference(f"invalid reference format: repository name ({repository}) must be lowercase")
    match = _REFERENCE.fullmatch(f"{domain}/{rest}")
    if match is None:
        raise InvalidReference("invalid reference format")
    if len(match["path"]) > _NAME_MAX:
        raise InvalidReference(f"repository name must not be more than {_NAME_MAX} characters")
    digest = digests.parse(match["digest"]) if match["digest"] else None
    return Reference(match["domain"], match["path"], match["tag"], digest)


def parse_any(value: str) -> "Reference | digests.Digest":
    """Parse what may also be an image id: 64 hex digits or a whole digest give a `Digest`, all else a `Reference`.

    Raises:
        InvalidReference: neither.
    """
    if len(value) == 64 and digests.is_hex(value):
        return digests.Digest("sha256:" + value)
    try:
        return digests.parse(value)
    except InvalidReference:
        return parse_normalized(value)


def _split_domain(value: str) -> tuple[str, str]:
    first, slash, rest = value.partition("/")
    if not slash or (not ("." in first or ":" in first) and first != "localhost" and first.lower() == first):
        domain, rest = DEFAULT_DOMAIN, value
    else:
        domain = first
    if domain == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in rest:
        rest = _OFFICIAL + rest
    return domain, rest
