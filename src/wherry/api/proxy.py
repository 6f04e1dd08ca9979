"""Our calls about services behind HAProxy, under `/wherry/v1/proxy/`."""

from wherry.api.call import Call, required
from wherry.api.reply import Reply, json_reply


async def services(call: Call) -> Reply:
    """GET /wherry/v1/proxy/services: every service in short."""
    return json_reply(await call.engine.services.listing())


async def service(call: Call) -> Reply:
    """GET /wherry/v1/proxy/service?name=…: one service with its members."""
    name = required(call.text("name"), "the name of a service is needed")
    return json_reply(await call.engine.services.inspect(name))


async def statistics(call: Call) -> Reply:
    """GET /wherry/v1/proxy/statistics: what HAProxy has counted, for each service and each member."""
    return json_reply(await call.engine.services.statistics())
