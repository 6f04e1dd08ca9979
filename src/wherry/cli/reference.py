"""As much of the grammar of image names as a command needs before it asks the engine.

The engine has the whole grammar; this decides only which tag is meant, and refuses what cannot be a name at all.
"""

_HEX = frozenset("0123456789abcdef")
_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-")
_TAG = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


class InvalidName(Exception):
    """Not an image name; the text is Docker's."""


def is_id(text: str) -> bool:
    """Whether it is a whole image id."""
    return len(text.removeprefix("sha256:")) == 64 and set(text.removeprefix("sha256:")) <= _HEX


def split(text: str) -> "tuple[str, str, str]":
    """(repository, tag, digest) of a name, its words checked. Raises `InvalidName`."""
    if not text:
        raise InvalidName("invalid reference format")
    name, _, digest = text.partition("@")
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        repository, tag, colon = name, "", ""
    path = repository
    first, slash, rest = repository.partition("/")
    has_domain = slash and ("." in first or ":" in first or first == "localhost" or first.lower() != first)
    path = rest if has_domain else repository
    if path.lower() != path:
        shown = path if "/" in path or has_domain else f"library/{path}"
        raise InvalidName(f"invalid reference format: repository name ({shown}) must be lowercase")
    good = all(
        part and set(part) <= _NAME and part[0] not in "._-" and part[-1] not in "._-" for part in path.split("/")
    )
    if not good or (colon and (not tag or len(tag) > 128 or not set(tag) <= _TAG or tag[0] in ".-")):
        raise InvalidName("invalid reference format")
    if "@" in text and (":" not in digest or len(digest.partition(":")[2]) < 32):
        raise InvalidName("invalid reference format")
    if len(repository) == 64 and set(repository) <= _HEX:
        raise InvalidName(f"invalid repository name ({repository}), cannot specify 64-byte hexadecimal strings")
    return repository, tag, digest


def familiar(repository: str) -> str:
    """A repository as people write it: without Docker Hub's name."""
    for prefix in ("docker.io/library/", "index.docker.io/library/", "docker.io/", "index.docker.io/"):
        if repository.startswith(prefix):
            return repository[len(prefix) :]
    return repository


def with_tag(text: str) -> str:
    """The name with the tag that is meant; "" for an image id. Raises `InvalidName`."""
    if is_id(text):
        return ""
    repository, tag, digest = split(text)
    repository = familiar(repository)
    if digest:
        return f"{repository}:{tag}@{digest}" if tag else f"{repository}@{digest}"
    return f"{repository}:{tag or 'latest'}"


def repository_and_tag(text: str) -> "tuple[str, str]":
    """What POST /images/create takes: the repository, and a tag or digest. Raises `InvalidName`."""
    repository, tag, digest = split(text)
    if "/" not in repository:
        repository = f"docker.io/library/{repository}"
    return repository, digest or tag or "latest"
