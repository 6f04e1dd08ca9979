"""What a registry says of an image, without its layers: Docker's `/distribution/{name}/json`."""

from typing import Any

from wherry.distribution.credentials import Credential
from wherry.distribution.settings import Settings
from wherry.distribution.source import Source
from wherry.errors import WherryError
from wherry.images.pull import read_document, translated
from wherry.oci import image as documents
from wherry.oci.image import Index
from wherry.oci.reference import Reference


async def describe(settings: Settings, name: Reference, credential: Credential) -> dict[str, Any]:
    """Return descriptor and platforms of a name in its registry; errors are those of `pull`."""
    async with Source(settings, name, credential) as source:
        try:
            top = await source.manifest(str(name.digest or name.tag))
            document = read_document(top)
            media_type = top.media_type or document.media_type
            if isinstance(document, Index):
                platforms = [_platform(found.platform) for found in document.manifests if found.platform is not None]
            else:
                config = document.config
                raw = await source.small_blob(config.verified, config.size, documents.CONFIG_LIMIT)
                platforms = [_platform(documents.read_config(raw))]
        except WherryError as error:
            raise translated(error, name) from None
    return {
        "Descriptor": {"mediaType": media_type, "digest": str(top.digest), "size": len(top.raw)},
        "Platforms": platforms,
    }


def _platform(found: Any) -> dict[str, str]:
    platform = {"architecture": found.architecture, "os": found.os}
    if found.variant:
        platform["variant"] = found.variant
    return platform
