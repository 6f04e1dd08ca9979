"""`search`: Docker's index API (`/v1/search`), which Hub and others have, and the tags of a repository."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from wherry.distribution.credentials import Credential
from wherry.distribution.settings import HUB, Settings
from wherry.distribution.source import Source
from wherry.distribution.transport import Transport, document, refusal
from wherry.errors import InvalidArgument, NotFound, Unavailable, WherryError
from wherry.linux.loopwatch import read_aside
from wherry.oci import image as documents
from wherry.oci.reference import Reference

INDEX = "index.docker.io"
_SECONDS = 9.0
_LIMIT, _MOST = 25, 100
_BYTES = 4 << 20


async def search(
    settings: Settings, term: str, limit: int, filters: Mapping[str, Sequence[str]], credential: Credential
) -> list[dict[str, Any]]:
    """Search an index.

    Args:
        term: what to look for; `HOST:PORT/TERM` asks that registry instead of Docker Hub.
        limit: 1 to 100 entries; 0 means 25.
        filters: `is-official`, `is-automated`, `stars`.
        credential: basic auth only, and never to Docker Hub's mirrors.

    Returns:
        Docker's entries: name, description, star_count, is_official, is_automated.

    Raises:
        InvalidArgument: a limit or filter that is none.
        Unavailable: the index does not answer within 10 seconds, or has no search.
    """
    keep = _filter(filters)
    host, words = _split(term)
    possible = not limit or 1 <= limit <= _MOST
    results: list[Any] = []
    # whether another index answers comes before what is asked of it, as with dockerd
    if possible or host != INDEX:
        try:
            async with asyncio.timeout(_SECONDS):
                results = await _ask(settings, host, words, limit if limit and possible else _LIMIT, credential)
        except TimeoutError:
            raise Unavailable(f"search: {host} does not answer within {_SECONDS:.0f} seconds") from None
    if not possible:
        raise InvalidArgument(f"limit {limit} is outside the range of [1, {_MOST}]")
    found = [_entry(item) for item in results if isinstance(item, dict) and isinstance(item.get("name"), str)]
    return [entry for entry in found if keep(entry)]


async def tags(settings: Settings, name: Reference, credential: Credential) -> list[str]:
    """Return all tags that a repository has in its registry."""
    async with Source(settings, name, credential) as source:
        return await source.tags()


def _split(term: str) -> tuple[str, str]:
    if "://" in term:
        raise InvalidArgument(f"invalid repository name: repository name ({term}) should not have a scheme")
    first, slash, rest = term.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost") and first not in (HUB, INDEX):
        return first, rest
    return INDEX, (rest if slash and first in (HUB, INDEX) else term).removeprefix("library/")


async def _ask(settings: Settings, host: str, words: str, limit: int, credential: Credential) -> list[Any]:
    endpoint = settings.endpoints(host)[-1]
    failures: list[WherryError] = []
    for scheme in endpoint.schemes:
        async with Transport(endpoint, settings, scheme) as transport:
            url = transport.root.with_path("/v1/search").with_query(q=words, n=str(limit))
            authorization = credential.basic if credential.username else None
            try:
                answer = await transport.send(
                    "GET", url, {"X-Docker-Token": "true"}, authorization=authorization, again=False
                )
            except Unavailable as error:
                failures.append(error)
                continue
            if answer.status == 404:
                answer.release()
                raise NotFound("Unexpected status code 404", status=404)
            if answer.status != 200:
                raise await refusal(answer)
            raw = await document(answer, _BYTES, "search results")
            value = await read_aside(lambda data: documents.read_json(data, _BYTES, "search results"), raw)
            results = value.get("results") if isinstance(value, dict) else None
            return results if isinstance(results, list) else []
    if len(failures) == 2:
        secure, plain = failures
        raise Unavailable(
            f'invalid registry endpoint "http://{host}/v1/". '
            f"HTTPS attempt: {secure.message}. HTTP attempt: {plain.message}"
        )
    raise failures[0]


def _entry(item: dict[str, Any]) -> dict[str, Any]:
    stars = item.get("star_count")
    return {
        "star_count": stars if isinstance(stars, int) else 0,
        "is_official": item.get("is_official") is True,
        "name": item["name"],
        "is_automated": item.get("is_automated") is True,
        "description": item["description"] if isinstance(item.get("description"), str) else "",
    }


def _filter(filters: Mapping[str, Sequence[str]]) -> Any:
    wanted: dict[str, Any] = {}
    for key, values in filters.items():
        if key == "stars":
            if not all(value.isdecimal() for value in values):
                wrong = next(value for value in values if not value.isdecimal())
                raise InvalidArgument(
                    f"invalid filter 'stars={wrong}': strconv.Atoi: parsing \"{wrong}\": invalid syntax"
                )
            wanted[key] = max((int(value) for value in values), default=0)
        elif key in ("is-official", "is-automated"):
            if not set(values) <= {"true", "false", "1", "0"} or len(set(values)) > 1:
                raise InvalidArgument(f"invalid filter '{key}=[{' '.join(values)}]'")
            wanted[key] = set(values) <= {"true", "1"}
        else:
            raise InvalidArgument(f"invalid filter '{key}'")

    def keep(entry: dict[str, Any]) -> bool:
        return bool(
            entry["star_count"] >= wanted.get("stars", 0)
            and wanted.get("is-official", entry["is_official"]) == entry["is_official"]
            and wanted.get("is-automated", entry["is_automated"]) == entry["is_automated"]
        )

    return keep
