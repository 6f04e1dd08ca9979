"""Attach over a WebSocket (RFC 6455): relayed, because its frames are not the container's to read."""

import asyncio
import socket
from typing import TYPE_CHECKING

from aiohttp import WSMsgType
from aiohttp.web import WebSocketResponse

from wherry.api.call import Call
from wherry.api.reply import Answer
from wherry.api.streams import attach_options
from wherry.errors import InvalidArgument

if TYPE_CHECKING:
    from aiohttp.web import Request

_PIECE = 64 * 1024
_LARGEST = 1 << 20


async def attach(call: Call) -> Answer:
    """GET /containers/{id}/attach/ws: output comes in binary frames without Docker's headers, input is any frame.

    The client's close detaches it; the container's end, or its detach keys, closes the WebSocket.
    """
    headers = call.request.headers
    if headers.get("Upgrade", "").lower() != "websocket" or not headers.get("Sec-WebSocket-Key"):
        raise InvalidArgument("not websocket protocol")
    ticket = await call.engine.containers.attach(call.name, attach_options(call, multiplexed=False))
    websocket = WebSocketResponse(max_msg_size=_LARGEST, heartbeat=None)
    # what is asked of a request here, the plain one has too
    request: Request = call.request  # type: ignore[assignment]
    await websocket.prepare(request)
    ours, theirs = socket.socketpair()
    with ours:
        ours.setblocking(False)
        theirs.setblocking(False)
        connecting = asyncio.ensure_future(ticket.connect(theirs.detach()))
        taking = asyncio.ensure_future(_input(websocket, ours))
        try:
            await _output(ours, websocket)
            await connecting
        finally:
            taking.cancel()
            await asyncio.gather(taking, connecting, return_exceptions=True)
        # nobody else may be reading then: who closes waits for the other's close
        await websocket.close()
    return Answer()


async def _output(ours: socket.socket, websocket: WebSocketResponse) -> None:
    loop = asyncio.get_running_loop()
    try:
        while data := await loop.sock_recv(ours, _PIECE):
            await websocket.send_bytes(data)
    except ConnectionError:
        return  # the client is gone, or the monitor


async def _input(websocket: WebSocketResponse, ours: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    try:
        async for message in websocket:
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                data = message.data.encode() if message.type is WSMsgType.TEXT else message.data
                await loop.sock_sendall(ours, data)
        # it has closed, and will read nothing more either
        ours.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the container has ended; what it wrote is still on its way out
