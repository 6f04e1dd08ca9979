"""Attach and logs: the client's socket goes to the monitor, or to a reader that the spawner forks."""

import os
import time
from typing import Any

from wherry.containers import logs as past_output
from wherry.containers.clock import parse_time
from wherry.containers.context import Context
from wherry.containers.model import Container, PendingClient
from wherry.containers.past import HeldLog
from wherry.containers.ticket import Ticket, stream_request
from wherry.errors import Conflict, InvalidArgument, NotSupported, Paused
from wherry.linux.taken import until_taken
from wherry.monitor import keys
from wherry.wire.containers import AttachOptions, LogOptions


def attach(context: Context, container: Container, options: AttachOptions) -> Ticket:
    """Check that a client may attach.

    A container that has not started yet takes the client along when it does.

    Raises:
        Paused, Conflict: in dockerd's words.
    """
    if container.status == "paused":
        raise Paused(f"container {container.id} is paused, unpause the container before attach")
    if container.status == "restarting":
        raise Conflict(f"container {container.id} is restarting, wait until the container is running")
    check_detach_keys(options.detach_keys)
    tty = container.record.config.tty
    framed = options.multiplexed and not tty
    request = stream_request(
        stdin=options.stdin and container.record.config.open_stdin,
        stdout=options.stdout,
        stderr=options.stderr,
        detach_keys=options.detach_keys,
        tty=tty,
    )
    request["framed"] = framed

    # the log tells past and present as one; who also types is handed to the monitor behind the past
    reads_on = options.stream and not request["stdin"]
    logged = options.logs and past_output.can_be_read(container.record.host_config.log_config)

    async def tell(fd: int, **window: int) -> None:
        past = LogOptions(stdout=options.stdout, stderr=options.stderr)
        asked = {**_log_request(context, container, past), "framed": framed, **window}
        held = HeldLog(asked["path"])
        # of one that has never run there is nothing to wait for: it may be started at this very moment
        if held.files:
            await until_taken(fd)
            await held.read(context, asked, fd)

    async def before(fd: int) -> bool:
        """Tell what was said before; whether nothing comes after it."""
        await _settled(container)
        if options.stream:
            context.event(container, "attach")
        ran, run, now = container.running, container.started_at, time.time_ns()
        over = False
        if logged:
            over = ran and reads_on
            await tell(fd, follow=over, until=0 if ran else now)
            await _settled(container)
            if not ran and container.started_at != run:
                # it was started while its past was told
                over = reads_on or not container.running
                await tell(fd, follow=reads_on and container.running, since=container.started_at)
        if container.running and not over:
            await until_taken(fd)
        return over or not options.stream or (not container.running and (ran or container.started_at != run))

    async def connect(fd: int, tail: bytes) -> None:
        try:
            over = await before(fd)
        except BaseException:
            os.close(fd)
            raise
        if over:
            os.close(fd)
            return
        message = {**request, **Ticket.tail(tail)}
        if container.running and container.monitor is not None:
            try:
                await container.monitor.request("attach", **message, fds={"client": fd})
            finally:
                os.close(fd)
        else:
            container.pending.append(PendingClient(fd, message))

    return Ticket(tty=tty, connect=connect)


async def _settled(container: Container) -> None:
    """Wait until a start that is under way is over: it has taken along who waited for it."""
    if not container.running:
        async with container.lock:
            return


def check_detach_keys(text: str) -> None:
    """Refuse a key list that is none.

    Raises:
        InvalidArgument: in dockerd's words.
    """
    try:
        keys.parse(text)
    except InvalidArgument:
        raise InvalidArgument(f"Invalid escape keys ({text}) provided") from None


def logs(context: Context, container: Container, options: LogOptions) -> Ticket:
    """Check a log request.

    Raises:
        InvalidArgument: no stream chosen, or a malformed time, in dockerd's words.
        NotSupported: the container's log driver keeps nothing to read.
    """
    if not options.stdout and not options.stderr:
        raise InvalidArgument("Bad parameters: you must choose at least one stream")
    if not past_output.can_be_read(container.record.host_config.log_config):
        raise NotSupported("configured logging driver does not support reading")
    request = {**_log_request(context, container, options), "chunked": options.chunked}
    # opened before the client hears of success: whatever becomes of the container then, the reader has what it wrote
    held = HeldLog(request["path"])

    async def connect(fd: int, _tail: bytes) -> None:
        try:
            await held.read(context, request, fd)
        finally:
            os.close(fd)

    return Ticket(tty=container.record.config.tty, connect=connect)


def _log_request(context: Context, container: Container, options: LogOptions) -> dict[str, Any]:
    data = context.roots.container(container.id)
    return {
        "path": past_output.path(data, container.id, container.record.host_config.log_config.type),
        "run_dir": context.roots.sandbox(container.id),
        "follow": options.follow and container.running,
        "tail": _tail(options.tail),
        "since": _moment(options.since),
        "until": _moment(options.until),
        "timestamps": options.timestamps,
        "stdout": options.stdout,
        "stderr": options.stderr,
        "details": options.details,
        "framed": not container.record.config.tty,
        "tty": container.record.config.tty,
    }


def _moment(text: str) -> int | None:
    try:
        return parse_time(text)
    except InvalidArgument:
        raise InvalidArgument(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


def _tail(text: str) -> int | None:
    if not text or text == "all":
        return None
    try:
        count = int(text)
    except ValueError:
        return None
    return count if count >= 0 else None
