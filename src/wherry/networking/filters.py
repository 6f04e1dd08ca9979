"""Which networks fit the filters of `network ls` and `network prune`."""

import time
from collections.abc import Iterable

from wherry.containers.clock import parse_rfc3339, parse_time
from wherry.errors import InvalidArgument, WherryError
from wherry.network.addressing import Addressed
from wherry.network.spec import PREDEFINED
from wherry.networking.table import Network
from wherry.patterns.expressions import Expression

Filters = dict[str, list[str]]
_LIST = ("dangling", "driver", "id", "label", "name", "scope", "type")
_PRUNE = ("label", "label!", "until")
_TRUE, _FALSE = ("true", "1"), ("false", "0")


def check(filters: Filters) -> None:
    """Check the filters of a list.

    Raises:
        InvalidArgument: in dockerd's words.
    """
    for name, values in filters.items():
        if name not in _LIST:
            raise InvalidArgument(f"invalid filter '{name}'")
        if name == "type":
            for value in values:
                if value not in ("builtin", "custom"):
                    raise InvalidArgument(f"invalid filter: 'type'='{value}'")
        if name == "dangling" and (len(values) != 1 or values[0] not in _TRUE + _FALSE):
            raise InvalidArgument('invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")')


def fits(network: Network, filters: Filters, *, busy: set[str]) -> bool:
    """Whether a network fits; `busy` are the ids of those that somebody is on."""
    return all(
        not values or any(_one(network, name, value, busy) for value in values) for name, values in filters.items()
    ) and all(_labelled(network, value) for value in filters.get("label", []))


def _one(network: Network, name: str, value: str, busy: set[str]) -> bool:
    builtin = network.name in PREDEFINED
    match name:
        case "name":
            return _matches(value, network.name)
        case "id":
            return network.id.startswith(value)
        case "driver":
            return network.driver == value
        case "scope":
            return value == "local"
        case "type":
            return builtin == (value == "builtin")
        case "dangling":
            dangling = network.id not in busy and network.name not in ("bridge", "host")
            return dangling == (value in _TRUE)
        case _:
            return _labelled(network, value)


def _matches(pattern: str, name: str) -> bool:
    """A regular expression over a part of the name; one that is none is the part itself."""
    try:
        return Expression(pattern).search(name)
    except InvalidArgument:
        return pattern in name


def _labelled(network: Network | Addressed, value: str) -> bool:
    key, equals, wanted = value.partition("=")
    labels = network.spec.labels
    return key in labels and (not equals or labels[key] == wanted)


def prunable(networks: Iterable[Addressed], filters: Filters, busy: set[str]) -> list[Addressed]:
    """Which networks prune removes.

    Raises:
        InvalidArgument: a filter that is none, in dockerd's words.
    """
    for name in filters:
        if name not in _PRUNE:
            raise InvalidArgument(f"invalid filter '{name}'")
    limits = []
    for value in filters.get("until", []):
        try:
            limits.append(parse_time(value))
        except WherryError:
            raise InvalidArgument(f'failed to parse value as time or duration: "{value}"') from None
    now = time.time_ns()
    return [
        network
        for network in networks
        if network.id not in busy
        and all(_labelled(network, value) for value in filters.get("label", []))
        and not any(_labelled(network, value) for value in filters.get("label!", []))
        and all(parse_rfc3339(network.spec.created) < (limit if limit is not None else now) for limit in limits)
    ]
