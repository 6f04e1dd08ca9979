"""Messages of the syslog protocols: RFC 3164, RFC 5424, and the form that local daemons take."""

import time

FACILITIES = (
    "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp ntp security console solaris-cron "
    "local0 local1 local2 local3 local4 local5 local6 local7"
).split()
FORMATS = ("", "rfc3164", "rfc5424", "rfc5424micro")

ERROR = 3
INFORMATION = 6

_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


def message(format_: str, facility: int, severity: int, host: str, tag: str, pid: int, at: int, text: bytes) -> bytes:
    """One message, without a frame.

    Args:
        format_: one of `FORMATS`.
        facility: 0 to 23.
        severity: 0 to 7.
        host: this machine's name.
        tag: who speaks.
        pid: the process that is told of.
        at: nanoseconds since the epoch.
        text: its words, without a newline.
    """
    priority = facility * 8 + severity
    seconds, rest = divmod(at, 10**9)
    moment = time.gmtime(seconds)
    if format_ in ("rfc5424", "rfc5424micro"):
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", moment)
        if format_ == "rfc5424micro":
            stamp += f".{rest // 1000:06d}"
        head = f"<{priority}>1 {stamp}Z {host} {tag} {pid} {tag} - "
    else:
        # local time, as the protocol wants, which has neither year nor zone
        here = time.localtime(seconds)
        stamp = f"{_MONTHS[here[1] - 1]} {here[2]:2d} {here[3]:02d}:{here[4]:02d}:{here[5]:02d}"
        where = f"{host} " if format_ == "rfc3164" else ""
        head = f"<{priority}>{stamp} {where}{tag}[{pid}]: "
    return head.encode("utf-8", "replace") + text
