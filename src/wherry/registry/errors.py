"""What a registry refuses, and the one table from error class to distribution-spec code and HTTP status.

Classes hang below the project's tree, so that a caller can catch as coarsely as it likes. Nothing but `api/` knows
that there is HTTP; nothing but `TABLE` knows a status.
"""

from typing import Any, Final

from wherry.errors import (
    Conflict,
    Forbidden,
    HostileInput,
    InvalidArgument,
    InvalidReference,
    InvalidSpec,
    NotFound,
    NotSupported,
    StoreError,
    Unauthorized,
    Unavailable,
    WherryError,
)


class NameInvalid(InvalidReference):
    """Not a repository name of the specification's grammar."""


class TagInvalid(InvalidReference):
    """Neither a tag nor a digest."""


class DigestInvalid(InvalidReference):
    """Not a digest, of an algorithm that is not served, or not the digest of what came."""


class NameUnknown(NotFound):
    """No such repository, or none that the caller may know of."""


class BlobUnknown(NotFound):
    """The repository does not hold that blob."""


class ManifestUnknown(NotFound):
    """The repository has no such tag or manifest."""


class UploadUnknown(NotFound):
    """No such upload session in this repository."""


class UploadInvalid(InvalidArgument):
    """A request of an upload that cannot be read."""


class UploadBusy(Conflict):
    """Another request is writing to that upload session."""


class RangeInvalid(InvalidArgument):
    """A chunk that does not begin where the last one ended."""


class SizeInvalid(InvalidArgument):
    """More or fewer bytes came than were announced."""


class PageInvalid(InvalidArgument):
    """A page size that is not a number."""


class ManifestInvalid(InvalidSpec):
    """A manifest that breaks its specification, or that two readers would read differently."""


class ManifestTooLarge(HostileInput):
    """A manifest above the size limit."""


class BlobTooLarge(HostileInput):
    """A blob above the configured limit."""


class ManifestBlobUnknown(InvalidSpec):
    """A manifest that points at what the repository does not hold; `facts["digests"]` lists it."""


class InUse(Conflict):
    """What should be deleted is still referenced."""


class Challenge(Unauthorized):
    """The caller must show who it is.

    Args:
        message: why.
        header: value of `WWW-Authenticate`.
    """

    def __init__(self, message: str, header: str, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.header = header


class TooManyRequests(Unavailable):
    """The caller asks too often; `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: int, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.retry_after = retry_after


class OutOfSpace(StoreError):
    """The storage is full."""


TABLE: Final[dict[type[WherryError], tuple[int, str]]] = {
    NameInvalid: (400, "NAME_INVALID"),
    TagInvalid: (400, "MANIFEST_INVALID"),
    DigestInvalid: (400, "DIGEST_INVALID"),
    InvalidReference: (400, "DIGEST_INVALID"),
    NameUnknown: (404, "NAME_UNKNOWN"),
    BlobUnknown: (404, "BLOB_UNKNOWN"),
    ManifestUnknown: (404, "MANIFEST_UNKNOWN"),
    UploadUnknown: (404, "BLOB_UPLOAD_UNKNOWN"),
    NotFound: (404, "NAME_UNKNOWN"),
    UploadInvalid: (400, "BLOB_UPLOAD_INVALID"),
    UploadBusy: (409, "BLOB_UPLOAD_INVALID"),
    RangeInvalid: (416, "BLOB_UPLOAD_INVALID"),
    SizeInvalid: (400, "SIZE_INVALID"),
    PageInvalid: (400, "PAGINATION_NUMBER_INVALID"),
    ManifestBlobUnknown: (400, "MANIFEST_BLOB_UNKNOWN"),
    ManifestInvalid: (400, "MANIFEST_INVALID"),
    InvalidSpec: (400, "MANIFEST_INVALID"),
    ManifestTooLarge: (413, "MANIFEST_INVALID"),
    BlobTooLarge: (413, "SIZE_INVALID"),
    HostileInput: (400, "MANIFEST_INVALID"),
    InUse: (405, "UNSUPPORTED"),
    Conflict: (409, "UNSUPPORTED"),
    NotSupported: (405, "UNSUPPORTED"),
    InvalidArgument: (400, "UNSUPPORTED"),
    Unauthorized: (401, "UNAUTHORIZED"),
    Forbidden: (403, "DENIED"),
    TooManyRequests: (429, "TOOMANYREQUESTS"),
    Unavailable: (503, "UNAVAILABLE"),
    OutOfSpace: (507, "UNAVAILABLE"),
    StoreError: (500, "UNKNOWN"),
    WherryError: (500, "UNKNOWN"),
}
"""Error class -> (HTTP status, code of the distribution specification). The most specific class wins."""


def answer_for(error: WherryError) -> tuple[int, str]:
    """Return status and code of an error: those of the nearest class in its resolution order."""
    for cls in type(error).__mro__:
        if cls in TABLE:
            return TABLE[cls]
    return 500, "UNKNOWN"
