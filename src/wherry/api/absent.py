"""Docker's calls that this engine does not have, each with a clear answer; what there is none of is an empty list."""

from collections.abc import Awaitable, Callable

from wherry.api.call import Call
from wherry.api.reply import Reply, json_reply
from wherry.errors import InvalidArgument, NotFound, NotSupported, Unavailable

NO_SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)
PLUGIN_VERBS = ("disable", "enable", "push", "set", "upgrade")
SWARM = ("swarm", "services", "nodes", "tasks", "secrets", "configs")


async def swarm(_call: Call) -> Reply:
    """Answer all of swarm as dockerd does outside of one."""
    raise Unavailable(NO_SWARM)


async def swarm_start(_call: Call) -> Reply:
    """POST /swarm/init and /swarm/join."""
    raise NotSupported("swarm is not supported")


async def swarm_leave(_call: Call) -> Reply:
    """POST /swarm/leave."""
    raise Unavailable("This node is not part of a swarm")


async def plugins(call: Call) -> Reply:
    """GET /plugins: there are none."""
    for name in call.filters():
        if name not in ("capability", "enabled"):
            raise InvalidArgument(f"invalid filter '{name}'")
    return json_reply([])


async def plugin(call: Call) -> Reply:
    """`/plugins/{name}` and `/plugins/{name}/{verb}`: there is none of any name."""
    name, _, verb = call.name.rpartition("/")
    raise NotFound(f'plugin "{name if name and verb in PLUGIN_VERBS else call.name}" not found')


def unsupported(what: str) -> Callable[[Call], Awaitable[Reply]]:
    """Make the handler of a call that is not there."""

    async def refuse(_call: Call) -> Reply:
        raise NotSupported(f"{what} not supported yet")

    return refuse
