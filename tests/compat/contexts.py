"""Contexts of our own that are built by both engines: what comes out must have the same files and configuration.

Only what the classic builder of an old dockerd understands too; the rest of the language is in `tests/build`.
"""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

_CONFIG = """FROM busybox
ARG version=1
ENV A=1 B="two words" C=$version D=${A}${nothing:-else}
ENV E ${B}/x
LABEL one=1 two="a b" three=${A}
EXPOSE 80 443/udp 8000-8001
VOLUME /data /more
VOLUME ["/and more"]
USER 7:8
WORKDIR relative
WORKDIR ${A}
STOPSIGNAL 9
SHELL ["/bin/sh", "-ec"]
HEALTHCHECK --interval=5s --retries=2 CMD test -e /data
ONBUILD RUN echo $A
ONBUILD COPY . /x
ENTRYPOINT exec top
CMD ["-b", "it's"]
"""
_COPY = """FROM busybox
RUN mkdir -p /there/is && ln -s there /link && echo old > /there/f
COPY . /all
COPY d /d
COPY d/ e f /into/
COPY f /named
COPY e* /globs/
COPY --chown=7:8 d f /owned/
COPY --chown=daemon:www-data f /by-name
COPY f n* /some/
COPY f /link/
COPY e /link/is/
WORKDIR /w/x
COPY f .
COPY d ../up
COPY ["f", "with blank"]
ADD f /added/
"""
_ADD = """FROM scratch
ADD a.tar /
ADD a.tar.gz /below/
ADD a.tar /as/name
COPY a.tar /kept
"""
_RUN = """FROM busybox
RUN mkdir -p /a/b/c /z && echo 1 > /a/f && echo 2 > /a/b/g && ln /a/f /a/hard && ln -s f /a/soft && mkfifo /a/pipe
RUN chmod 4755 /a/f && chmod 1777 /z && chown 7:8 /a/b && touch -d '2001-02-03 04:05:06' /a/old
RUN rm -r /a/b && mkdir /a/b && echo 3 > /a/b/h && rm /a/soft && mkdir /a/soft && mv /a/pipe /a/moved
RUN rm /bin/vi && echo new > /etc/group && mkdir /proc/none 2> /dev/null; echo done > /dev/null
USER nobody
RUN touch /tmp/mine && id -u > /tmp/who
"""
_STAGES = """ARG tag=latest
FROM busybox:${tag} AS first
ARG tag
RUN mkdir -p /o/d && echo ${tag:-none} > /o/f && echo x > /o/d/x && ln -s f /o/l
FROM busybox AS unneeded
RUN echo never
FROM first
ENV FROM_BASE=1
COPY --from=0 /o /p
COPY --from=first /o/f /o/d/x /q/
FROM busybox
COPY --from=2 /p/ /p/
COPY --from=busybox /etc/passwd /passwd
"""
_IGNORE = """FROM busybox
COPY . /c
"""


def _files(directory: Path) -> None:
    for path, mode in (("f", 0o644), ("e", 0o755), ("e2", 0o600), ("d/x", 0o640), ("d/.y", 0o644), ("d/s/z", 0o444)):
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path)
        target.chmod(mode)
    (directory / "d/empty").mkdir(mode=0o700)
    (directory / "d/link").symlink_to("../f")
    (directory / "d/dangling").symlink_to("/nowhere")
    os.utime(directory / "f", (1_000_000_000, 1_000_000_000))


def _archives(directory: Path) -> None:
    for name, mode in (("a.tar", "w"), ("a.tar.gz", "w:gz")):
        with tarfile.open(str(directory / name), mode) as tar:  # type: ignore[call-overload]
            for path, kind, owner, bits, link in (
                ("t", tarfile.DIRTYPE, 0, 0o750, ""),
                ("t/f", tarfile.REGTYPE, 7, 0o4755, ""),
                ("t/hard", tarfile.LNKTYPE, 7, 0o4755, "t/f"),
                ("t/soft", tarfile.SYMTYPE, 8, 0o777, "f"),
                ("implied/g", tarfile.REGTYPE, 9, 0o600, ""),
            ):
                info = tarfile.TarInfo(path)
                info.type, info.uid, info.gid, info.mode, info.linkname = kind, owner, owner, bits, link
                info.mtime = 1_000_000_000
                info.size = len(path) if kind == tarfile.REGTYPE else 0
                tar.addfile(info, io.BytesIO(path.encode()))


def _ignored(directory: Path) -> None:
    _files(directory)
    (directory / ".dockerignore").write_text("# a comment\nd\n!d/s\n**/e?\nDocker*\n\n/f/../e\n")


def _nothing(_directory: Path) -> None:
    return


CONTEXTS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "configuration": (_CONFIG, _nothing),
    "copies": (_COPY, _files),
    "archives": (_ADD, _archives),
    "programs": (_RUN, _nothing),
    "stages": (_STAGES, _nothing),
    "ignored": (_IGNORE, _ignored),
}
"""Name -> (Dockerfile, what makes the files beside it)."""
