"""The log drivers by name. Every container has one; what only few use is imported when it is asked for."""

from wherry.errors import NotSupported, Unavailable
from wherry.monitor.logwriter import JsonFileLog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.linux.loop import Loop
    from wherry.monitor.logremote import RemoteLog

    Log = JsonFileLog | RemoteLog
    Compress = Callable[[int, str, Callable[[bool], None]], None]


def open_log(
    loop: "Loop", values: "dict[str, Any]", compress: "Compress", on_error: "Callable[[BaseException], None]"
) -> "Log | None":
    """Open the log of a launch.

    Args:
        loop: the monitor's.
        values: `log` of the launch: `driver` (json-file, syslog, journald, none), `path` (empty: keep nothing here),
            `max_size`, `max_file`, `compress`, `attrs`, and `remote` for what is sent.
        compress: see `JsonFileLog`.
        on_error: told about each run of failed writes.

    Returns:
        None where nothing is recorded.

    Raises:
        NotSupported: another driver.
        Unavailable: the log server does not answer, in dockerd's words.
    """
    driver = values.get("driver") or "none"
    if driver == "none":
        return None
    if driver not in ("json-file", "syslog", "journald"):
        raise NotSupported(f"logger: no log driver named '{driver}' is registered")
    file = None
    if values.get("path"):
        file = JsonFileLog(
            values["path"],
            max_size=int(values.get("max_size") or 0),
            max_files=int(values.get("max_file") or 1),
            attrs=values.get("attrs"),
            compress=compress if values.get("compress", True) else None,
            on_error=on_error,
        )
    return file if driver == "json-file" else _remote(loop, driver, values["remote"], file, on_error)


def _remote(
    loop: "Loop",
    driver: str,
    values: "dict[str, Any]",
    cache: "JsonFileLog | None",
    on_error: "Callable[[BaseException], None]",
) -> "RemoteLog":
    import _socket
    import os

    from wherry.monitor import logremote

    try:
        if driver == "journald":
            address = _socket.AF_UNIX, _socket.SOCK_DGRAM, logremote.JOURNAL
            return logremote.RemoteLog(loop, logremote.journal_encoder(values), address, cache, on_error)
        encoder = logremote.syslog_encoder(values, os.getpid())
        return logremote.RemoteLog(loop, encoder, logremote.syslog_target(values), cache, on_error)
    except OSError as error:
        if cache is not None:
            cache.close()
        where = f"dial {values['scheme']} {values['place']}" if driver == "syslog" else "journald"
        reason = (error.strerror or str(error)).lower()
        raise Unavailable(
            f"failed to create task for container: failed to initialize logging driver: {where}: connect: {reason}"
        ) from None
