"""What a registry says of an image, without its layers: Docker's `/distribution/{name}/json`, and its manifests."""

import base64
from typing import Any

from wherry.distribution.credentials import Credential
from wherry.distribution.settings import Settings
from wherry.distribution.source import Fetched, Source
from wherry.errors import NotFound, WherryError
from wherry.images.pull import document_aside, translated
from wherry.linux.loopwatch import read_aside
from wherry.oci import image as documents
from wherry.oci.image import Index, Manifest
from wherry.oci.reference import Reference


async def describe(settings: Settings, name: Reference, credential: Credential) -> dict[str, Any]:
    """Return descriptor and platforms of a name in its registry; errors are those of `pull`."""
    async with Source(settings, name, credential) as source:
        try:
            top = await source.manifest(str(name.digest or name.tag))
            document = await document_aside(top)
            media_type = top.media_type or document.media_type
            if isinstance(document, Index):
                platforms = [_platform(found.platform) for found in document.manifests if found.platform is not None]
            else:
                platforms = [await _platform_of(source, document)]
        except WherryError as error:
            raise translated(error, name) from None
    return {
        "Descriptor": {"mediaType": media_type, "digest": str(top.digest), "size": len(top.raw)},
        "Platforms": platforms,
    }


async def manifests(settings: Settings, name: Reference, credential: Credential, *, verbose: bool) -> dict[str, Any]:
    """Return the manifest that a name points at in its registry, as it is there.

    Args:
        verbose: of an index also the manifests that it names; of each its platform.

    Returns:
        `{"Ref", "Descriptor", "Raw"}`, the last in base64, and of an index `Manifests`, a list of the same.

    Raises:
        NotFound: `no such manifest: …`.
        Others as `pull`.
    """
    async with Source(settings, name, credential) as source:
        try:
            top = await source.manifest(str(name.digest or name.tag))
            document = await document_aside(top)
            if not isinstance(document, Index):
                platform = await _platform_of(source, document) if verbose else None
                return _described(str(name), top, top.media_type or document.media_type, platform)
            shown = _described(str(name), top, top.media_type or document.media_type, None)
            shown["Manifests"] = [
                _described(
                    f"{name}@{entry.digest}",
                    await source.manifest(str(entry.verified)),
                    entry.media_type,
                    _platform(entry.platform) if entry.platform is not None else None,
                )
                for entry in (document.manifests if verbose else ())
                if entry.media_type in documents.MANIFESTS
            ]
        except WherryError as error:
            if isinstance(translated(error, name), NotFound):
                raise NotFound(f"no such manifest: {name}") from None
            raise translated(error, name) from None
    return shown


def _described(ref: str, found: Fetched, media_type: str, platform: dict[str, str] | None) -> dict[str, Any]:
    descriptor: dict[str, Any] = {"mediaType": media_type, "digest": str(found.digest), "size": len(found.raw)}
    if platform is not None:
        descriptor["platform"] = platform
    return {"Ref": ref, "Descriptor": descriptor, "Raw": base64.b64encode(found.raw).decode()}


async def _platform_of(source: Source, manifest: Manifest) -> dict[str, str]:
    raw = await source.small_blob(manifest.config.verified, manifest.config.size, documents.CONFIG_LIMIT)
    return _platform(await read_aside(documents.read_config, raw))


def _platform(found: Any) -> dict[str, str]:
    platform = {"architecture": found.architecture, "os": found.os}
    if found.variant:
        platform["variant"] = found.variant
    return platform
