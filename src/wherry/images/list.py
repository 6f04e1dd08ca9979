"""`images` and `image inspect`: what is stored, as Docker's JSON."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wherry.errors import InvalidArgument
from wherry.images import rfc3339
from wherry.images.model import Image
from wherry.images.patterns import Pattern
from wherry.images.resolve import resolve
from wherry.images.stores import Stores

Filters = Mapping[str, Sequence[str]]

_TRUE = frozenset(("1", "true", "t", "T", "TRUE", "True"))
_FALSE = frozenset(("0", "false", "f", "F", "FALSE", "False"))
_ZERO_CONFIG: dict[str, Any] = {
    "Hostname": "",
    "Domainname": "",
    "User": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Env": None,
    "Cmd": None,
    "Image": "",
    "Volumes": None,
    "WorkingDir": "",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": None,
}


def select(stores: Stores, filters: Filters | None = None, *, everything: bool = False) -> list[Image]:
    """Return the images that a listing shows, newest first.

    Args:
        filters: `dangling`, `label`, `before`, `since`, `until`, `reference`; several values of one are alternatives,
            but for labels, all of which an image must have.
        everything: also images that only other images were built from.

    Raises:
        InvalidArgument: Docker's words for a filter that does not exist or a value that is none.
        ImageNotFound: `before` or `since` names no image.
    """
    filters = {key: values for key, values in (filters or {}).items() if values}
    images = [stores.image(id_) for id_ in stores.records.by_id]
    parents = {image.parent for image in images}
    for key, values in filters.items():
        keep = _filter(stores, key, values)
        images = [image for image in images if keep(image)]
    if not everything and "dangling" not in filters:
        images = [image for image in images if not image.dangling or image.id not in parents]
    return sorted(images, key=lambda image: (-rfc3339.seconds(image.created), image.id))


def summaries(stores: Stores, filters: Filters | None = None, *, everything: bool = False) -> list[dict[str, Any]]:
    """Return Docker's entries of `GET /images/json`; arguments and errors are those of `select`."""
    return [_summary(image, filters or {}) for image in select(stores, filters, everything=everything)]


def prunable(stores: Stores, filters: Filters | None = None) -> list[str]:
    """Return the ids that a prune looks at: dangling images, with `dangling=false` all; narrowed by label and until.

    Raises:
        InvalidArgument: another filter, or a value that is none.
    """
    filters = {key: values for key, values in (filters or {}).items() if values}
    for key in filters:
        if key not in ("dangling", "label", "label!", "until"):
            raise InvalidArgument(f"invalid filter '{key}'")
    dangling = filters.pop("dangling", ["true"])
    refused = filters.pop("label!", [])
    everything = all(_boolean("dangling", value, dangling) is False for value in dangling)
    images = select(stores, filters if everything else {**filters, "dangling": ["true"]}, everything=True)
    unwanted = [_label(stores, [label]) for label in refused]
    return [image.id for image in images if not any(keep(image) for keep in unwanted)]


def inspect(stores: Stores, name_or_id: str) -> dict[str, Any]:
    """Return Docker's answer to `GET /images/{name}/json`. Raises what `resolve` raises."""
    image = resolve(stores, name_or_id)
    document = json.loads(image.raw_config)
    config = {key: value for key, value in (document.get("config") or {}).items() if value is not None}
    top = stores.overlay.path(image.chain_ids[-1]) if image.chain_ids else ""
    lower = ":".join(stores.overlay.path(chain_id) for chain_id in reversed(image.chain_ids[:-1]))
    data = {"UpperDir": top} if top else {}
    if lower:
        data["LowerDir"] = lower
    answer: dict[str, Any] = {
        "Id": image.id,
        "RepoTags": list(image.names),
        "RepoDigests": list(image.repo_digests),
        "Parent": image.parent,
        "Comment": image.config.comment or _last_comment(image),
        "Created": image.created or None,
        "DockerVersion": image.config.docker_version,
        "Author": image.config.author,
        "Config": {**_ZERO_CONFIG, **config},
        "Architecture": image.config.architecture,
        "Os": image.config.os,
        "Size": image.size,
        "GraphDriver": {"Data": data or None, "Name": "overlay2"},
        "RootFS": {"Type": "layers", "Layers": list(image.diff_ids)} if image.diff_ids else {"Type": "layers"},
        "Metadata": {"LastTagTime": _time(image.named_at)},
    }
    if image.config.variant:
        answer["Variant"] = image.config.variant
    if image.config.os_version:
        answer["OsVersion"] = image.config.os_version
    return answer


def _summary(image: Image, filters: Filters) -> dict[str, Any]:
    names = list(image.names)
    patterns = [Pattern(value) for value in filters.get("reference", ())]
    if patterns:
        names = [name for name in names if _matches(name, patterns)]
    return {
        "Containers": -1,
        "Created": rfc3339.seconds(image.created),
        "Id": image.id,
        "Labels": image.config.config.labels,
        "ParentId": image.parent,
        "RepoDigests": list(image.repo_digests),
        "RepoTags": names,
        "SharedSize": -1,
        "Size": image.size,
    }


def _last_comment(image: Image) -> str:
    return image.config.history[-1].comment if image.config.history else ""


def _time(nanoseconds: int) -> str:
    if not nanoseconds:
        return "0001-01-01T00:00:00Z"
    whole, fraction = divmod(nanoseconds, 10**9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{fraction:09d}Z"


# -- filters


def _filter(stores: Stores, key: str, values: Sequence[str]) -> Callable[[Image], bool]:
    make = _FILTERS.get(key)
    if make is None:
        raise InvalidArgument(f"invalid filter '{key}'")
    return make(stores, values)


def _dangling(_: Stores, values: Sequence[str]) -> Callable[[Image], bool]:
    wanted = {_boolean("dangling", value, values) for value in values}
    if len(wanted) > 1:
        raise InvalidArgument(f"invalid filter 'dangling=[{' '.join(values)}]'")
    return lambda image: image.dangling in wanted


def _boolean(key: str, value: str, values: Sequence[str]) -> bool:
    if value not in _TRUE | _FALSE:
        raise InvalidArgument(f"invalid filter '{key}=[{' '.join(values)}]'")
    return value in _TRUE


def _label(_: Stores, values: Sequence[str]) -> Callable[[Image], bool]:
    def keep(image: Image) -> bool:
        labels = image.config.config.labels or {}
        for value in values:
            key, equals, wanted = value.partition("=")
            if key not in labels or (equals and labels[key] != wanted):
                return False
        return True

    return keep


def _before(stores: Stores, values: Sequence[str]) -> Callable[[Image], bool]:
    limit = min(_created(resolve(stores, value)) for value in values)
    return lambda image: _created(image) < limit


def _since(stores: Stores, values: Sequence[str]) -> Callable[[Image], bool]:
    limit = max(_created(resolve(stores, value)) for value in values)
    return lambda image: _created(image) > limit


def _until(_: Stores, values: Sequence[str]) -> Callable[[Image], bool]:
    limits = []
    for value in values:
        limit = rfc3339.moment(value, time.time())
        if limit is None:
            raise InvalidArgument(f'failed to parse value as time or duration: "{value}"')
        limits.append(limit * 1e9)
    return lambda image: _created(image) < min(limits)


def _reference(_: Stores, values: Sequence[str]) -> Callable[[Image], bool]:
    patterns = [Pattern(value) for value in values]
    return lambda image: any(_matches(name, patterns) for name in (*image.names, *image.repo_digests))


def _created(image: Image) -> int:
    return rfc3339.nanoseconds(image.created) or 0


def _matches(name: str, patterns: Sequence[Pattern]) -> bool:
    """Whether a familiar name, or its repository, fits one of the patterns."""
    # by text: a repository of 64 hex digits has a familiar form that is no name
    whole = name.partition("@")[0]
    colon = whole.find(":", whole.rfind("/") + 1)
    repository = whole if colon < 0 else whole[:colon]
    return any(pattern.matches(name) or pattern.matches(repository) for pattern in patterns)


_FILTERS: dict[str, Callable[[Stores, Sequence[str]], Callable[[Image], bool]]] = {
    "dangling": _dangling,
    "label": _label,
    "before": _before,
    "since": _since,
    "until": _until,
    "reference": _reference,
}
