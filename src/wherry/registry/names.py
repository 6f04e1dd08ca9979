"""Names that become paths: repositories, tags, upload sessions. The only module that turns one into a storage key.

    repositories/<name>/oci-layout  index.json  blobs/<algorithm>/<hex>      an OCI layout; `/` is written `+`
    uploads/<name>/<session>                                               data of an unfinished upload
    locks/<xx>                                                              one of 256, always the same for a repository

`+` is in no repository name, so the spelling is one to one, and one repository never lies inside another one's
layout. Nothing becomes a key that did not match the grammar in full.
"""

import re
import secrets
from functools import lru_cache
from typing import Final
from zlib import crc32

from wherry.errors import InvalidReference
from wherry.oci import digest as digests
from wherry.registry.errors import DigestInvalid, NameInvalid, TagInvalid, UploadUnknown

NAME_MAX: Final = 255
REPOSITORIES: Final = "repositories"
UPLOADS: Final = "uploads"

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_SESSION = re.compile(r"(sha256|sha512)\.[0-9a-f]{48}")


@lru_cache(maxsize=4096)
def repository_name(value: str) -> str:
    """Return `value` if it is a repository name.

    Raises:
        NameInvalid: it is not, or is longer than 255 characters.
    """
    if len(value) > NAME_MAX or _NAME.fullmatch(value) is None:
        raise NameInvalid("invalid repository name", name=value[:NAME_MAX])
    return value


def is_tag(value: str) -> bool:
    """Whether `value` is a tag."""
    return _TAG.fullmatch(value) is not None


def tag_name(value: str) -> str:
    """Return `value` if it is a tag.

    Raises:
        TagInvalid: it is not.
    """
    if _TAG.fullmatch(value) is None:
        raise TagInvalid("invalid tag", tag=value[:128])
    return value


@lru_cache(maxsize=4096)
def digest(value: str) -> str:
    """Return `value` if it is a digest: a plain `str`, which every encoder takes.

    Raises:
        DigestInvalid: it is none, or its algorithm is not served.
    """
    try:
        return str(digests.parse(value))
    except InvalidReference as error:
        raise DigestInvalid(error.message, digest=value[:160]) from None


def repository_key(name: str) -> str:
    """Key of the repository's layout; the name was checked by `repository_name`."""
    return f"{REPOSITORIES}/{name.replace('/', '+')}"


def name_of(entry: str) -> str | None:
    """Repository name of an entry below `repositories/`; None where it is not one of ours."""
    name = entry.replace("+", "/")
    return name if len(name) <= NAME_MAX and _NAME.fullmatch(name) and "/" not in entry else None


def index_key(name: str) -> str:
    """Key of the repository's `index.json`."""
    return f"{REPOSITORIES}/{name.replace('/', '+')}/index.json"


def layout_key(name: str) -> str:
    """Key of the repository's `oci-layout`."""
    return f"{REPOSITORIES}/{name.replace('/', '+')}/oci-layout"


def blob_key(name: str, of: str) -> str:
    """Key of a blob in a repository; `of` is a checked digest."""
    return f"{REPOSITORIES}/{name.replace('/', '+')}/blobs/{of.replace(':', '/')}"


def blobs_key(name: str, algorithm: str) -> str:
    """Key of the directory of a repository's blobs of one algorithm."""
    return f"{REPOSITORIES}/{name.replace('/', '+')}/blobs/{algorithm}"


def new_session(algorithm: str) -> str:
    """Make the id of an upload session: what it will probably be hashed with, and 192 random bits."""
    return f"{algorithm}.{secrets.token_hex(24)}"


def session_key(name: str, session: str) -> str:
    """Key of an upload's data: below its repository, so that a session of another one is not there.

    Raises:
        UploadUnknown: `session` is not an id of ours.
    """
    if _SESSION.fullmatch(session) is None:
        raise UploadUnknown("upload session unknown")
    return f"{UPLOADS}/{name.replace('/', '+')}/{session}"


def lock_key(name: str) -> str:
    """Name of the lock under which a repository changes."""
    return f"locks/{crc32(name.encode()) & 0xFF:02x}"
