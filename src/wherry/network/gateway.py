"""Through which of its networks a container leaves, and its published ports come in."""

from collections.abc import Sequence

from wherry.network.endpoint import Endpoint


def leaving(endpoints: Sequence[Endpoint], *, ipv6: bool = False) -> Endpoint | None:
    """The endpoint with the default route: of the highest priority; of equal ones the first by network name."""
    usable = [endpoint for endpoint in endpoints if (endpoint.gateway6 if ipv6 else endpoint.gateway)]
    return min(usable, key=lambda endpoint: (-endpoint.priority, endpoint.network), default=None)


def receiving(endpoints: Sequence[Endpoint], *, ipv6: bool = False) -> Endpoint | None:
    """The endpoint to which published ports lead: the one whose route answers take, if it is on a bridge."""
    chosen = leaving(endpoints, ipv6=ipv6)
    return chosen if chosen is not None and chosen.kind == "bridge" else None


def plans(endpoints: Sequence[Endpoint]) -> "list[dict[str, object]]":
    """What `network.sandbox.configure` needs for all of them."""
    way, way6 = leaving(endpoints), leaving(endpoints, ipv6=True)
    return [endpoint.plan(default=endpoint is way, default6=endpoint is way6) for endpoint in endpoints]


def default_routes(endpoints: Sequence[Endpoint]) -> "dict[str, list[str]]":
    """The default routes of a sandbox: `{"ipv4": [interface, gateway], "ipv6": …}`; none: an empty list."""
    way, way6 = leaving(endpoints), leaving(endpoints, ipv6=True)
    return {
        "ipv4": [way.name, way.gateway] if way is not None else [],
        "ipv6": [way6.name, way6.gateway6] if way6 is not None else [],
    }
