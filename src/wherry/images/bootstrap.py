"""Base images without a registry, from the machine's own Debian packages.

`busybox` is the machine's static busybox; `debian:<suite>` is made by mmdebstrap. Equal packages give equal digests:
every time in an image is at most that of its newest package, and what differs from run to run is not in it.
"""

import asyncio
import contextlib
import io
import os
import signal
import struct
import tarfile
import tempfile
import time
from collections.abc import Callable

from wherry.errors import InvalidArgument, Unavailable
from wherry.images import import_ as importing
from wherry.images.debian import Suite, apt_lines, known_suites
from wherry.images.feed import read_in_thread
from wherry.images.reproducible import settle
from wherry.images.stores import Progress, Stores
from wherry.oci.reference import Reference, parse_normalized
from wherry.values import times

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CLEANING_SECONDS = 10
_MMDEBSTRAP_SECONDS = 1800
# what the machine lends for the installation, and what differs from run to run; for sh, in the new root
_CLEANING = """set -eu; cd "$1"
rm -f etc/resolv.conf etc/hostname etc/machine-id etc/passwd- etc/group- etc/shadow- etc/gshadow-
touch etc/resolv.conf etc/hostname etc/machine-id
find var/log -xdev -type f -delete
rm -rf var/cache/ldconfig var/cache/debconf var/lib/dbus var/lib/systemd/random-seed
rm -f var/lib/dpkg/*-old var/cache/apt/*.bin"""

_BUSYBOX_DIRECTORIES = (
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("sbin", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("usr/bin", 0o755),
    ("usr/sbin", 0o755),
    ("var", 0o755),
    ("var/spool", 0o755),
    ("var/tmp", 0o1777),
    ("var/www", 0o755),
)
_BUSYBOX_FILES = (
    (
        "etc/passwd",
        0o644,
        (
            "root:x:0:0:root:/root:/bin/sh\n"
            "daemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
            "bin:x:2:2:bin:/bin:/bin/false\n"
            "sys:x:3:3:sys:/dev:/bin/false\n"
            "mail:x:8:8:mail:/var/spool/mail:/bin/false\n"
            "www-data:x:33:33:www-data:/var/www:/bin/false\n"
            "nobody:x:65534:65534:nobody:/home:/bin/false\n"
        ),
    ),
    (
        "etc/group",
        0o644,
        (
            "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\nwheel:x:10:root\n"
            "mail:x:8:\nutmp:x:43:\nwww-data:x:33:\nstaff:x:50:\nusers:x:100:\nnogroup:x:65534:\n"
        ),
    ),
    ("etc/shadow", 0o640, "root:*:::::::\ndaemon:*:::::::\nnobody:*:::::::\n"),
)


async def bootstrap(stores: Stores, name: str, progress: Progress) -> str:
    """Make a base image and name it; an equal one that is there is kept.

    Args:
        name: `busybox`, `debian:bookworm` or `debian:trixie`.
        progress: takes `{"status": …}` messages.

    Returns:
        the image id.

    Raises:
        InvalidArgument: another name.
        Unavailable: a package of the machine is missing, and which; or mmdebstrap failed, with its words.
    """
    reference = parse_normalized(name).with_default_tag()
    if reference.name == "docker.io/library/busybox" and reference.tag == "latest":
        made = await _busybox(stores, reference, progress)
    elif reference.name == "docker.io/library/debian" and reference.tag in known_suites():
        made = await _debian(stores, reference, known_suites()[reference.tag], progress)
    else:
        possible = ", ".join(["busybox", *(f"debian:{suite}" for suite in known_suites())])
        raise InvalidArgument(f"cannot bootstrap {reference.familiar()!r}: possible are {possible}")
    progress({"status": f"Successfully tagged {reference.familiar()}"})
    return made


# -- busybox


async def _busybox(stores: Stores, reference: Reference, progress: Progress) -> str:
    binary = _program("busybox", "busybox-static")
    content, moment = await asyncio.to_thread(_read_static, binary)
    progress({"status": f"Building {reference.familiar()} from {binary}"})
    process = await asyncio.create_subprocess_exec(
        binary, "--list-full", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    listed, _ = await process.communicate()
    applets = [line.strip().lstrip("/") for line in listed.decode("ascii", "replace").splitlines()]
    applets = sorted({path for path in applets if "/" in path and path != "bin/busybox"})
    if process.returncode != 0 or not applets:
        raise Unavailable(f"{binary} does not list its applets: install the package busybox-static")
    archive = await asyncio.to_thread(_busybox_tar, content, applets, moment)
    return await importing.import_(
        stores,
        _Once(archive),
        reference,
        created=times.whole(moment),
        config={"Env": [_PATH], "Cmd": ["sh"]},
        created_by="wherry image bootstrap busybox",
    )


def _read_static(binary: str) -> tuple[bytes, int]:
    """Return a program's content and time. Raises `Unavailable` where it needs libraries that the image has not."""
    with open(binary, "rb") as file:
        moment = int(os.fstat(file.fileno()).st_mtime)
        content = file.read()
    if not _is_static(content):
        raise Unavailable(f"{binary} is not statically linked: install the package busybox-static")
    return content, moment


def _is_static(content: bytes) -> bool:
    """Whether an ELF file names no program interpreter (PT_INTERP, elf(5))."""
    if content[:4] != b"\x7fELF":
        return False
    wide, order = content[4] == 2, "<" if content[5] == 1 else ">"
    offset = struct.unpack_from(order + ("Q" if wide else "I"), content, 32 if wide else 28)[0]
    size, count = struct.unpack_from(order + "HH", content, 54 if wide else 42)
    return all(struct.unpack_from(order + "I", content, offset + size * number)[0] != 3 for number in range(count))


def _busybox_tar(content: bytes, applets: list[str], moment: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:

        def add(path: str, kind: bytes, mode: int, data: bytes = b"", link: str = "") -> None:
            header = tarfile.TarInfo(path)
            header.type, header.mode, header.mtime, header.linkname = kind, mode, moment, link
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))

        for path, mode in _BUSYBOX_DIRECTORIES:
            add(path, tarfile.DIRTYPE, mode)
        add("bin/busybox", tarfile.REGTYPE, 0o755, content)
        for path in applets:
            add(path, tarfile.LNKTYPE, 0o755, link="bin/busybox")
        for path, mode, text in _BUSYBOX_FILES:
            add(path, tarfile.REGTYPE, mode, text.encode())
    return buffer.getvalue()


class _Once:
    """An async iterator of one chunk."""

    def __init__(self, data: bytes) -> None:
        self._data: bytes | None = data

    def __aiter__(self) -> "_Once":
        return self

    async def __anext__(self) -> bytes:
        data, self._data = self._data, None
        if data is None:
            raise StopAsyncIteration
        return data


# -- Debian


async def _debian(stores: Stores, reference: Reference, suite: Suite, progress: Progress) -> str:
    program = _program("mmdebstrap", "mmdebstrap")
    if not os.path.exists(_KEYRING):
        raise Unavailable(f"{_KEYRING} is missing: install the package debian-archive-keyring")
    started = int(time.time())
    lines = await apt_lines(suite)
    progress({"status": f"Bootstrapping {reference.familiar()} from {lines[0].split()[1]}"})
    command = [
        program,
        "--variant=minbase",
        "--format=tar",
        f"--keyring={_KEYRING}",
        "--skip=output/dev",
        '--aptopt=Acquire::Languages "none"',
        # on one line, because mmdebstrap prints it and `_run` leaves that line out of the progress
        f"--customize-hook={_CLEANING.replace(chr(10), '; ')}",
        suite.name,
        "-",
        *lines,
    ]
    with tempfile.TemporaryFile(dir=stores.blobs.ingests) as file:
        await _run(command, started, file.fileno(), progress)
        progress({"status": "Making it reproducible"})
        newest = await asyncio.to_thread(settle, file.fileno(), started)
        file.seek(0)
        return await importing.import_(
            stores,
            file.fileno(),
            reference,
            created=times.whole(newest),
            config={"Env": [_PATH], "Cmd": ["bash"]},
            created_by=f"wherry image bootstrap {reference.familiar()}",
        )


async def _run(command: list[str], moment: int, target: int, progress: Progress) -> None:
    """Run mmdebstrap with its archive going to `target` and its messages to `progress`."""
    environment = {
        "PATH": _SEARCH,
        "SOURCE_DATE_EPOCH": str(moment),
        "LC_ALL": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
        "HOME": "/root",
        **{key: value for key, value in os.environ.items() if key.lower() in ("http_proxy", "https_proxy", "no_proxy")},
    }
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=writing,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    copying = asyncio.ensure_future(read_in_thread(reading, _copier(target)))
    last: list[str] = []
    try:
        async with asyncio.timeout(_MMDEBSTRAP_SECONDS):
            assert process.stderr is not None
            async for line in process.stderr:
                text = line.decode("utf-8", "replace").rstrip().removeprefix("I: ")
                if text and not text.startswith("running --customize-hook"):
                    last = [*last[-9:], text]
                    progress({"status": text})
            code = await process.wait()
            await copying
    except BaseException:
        await _end(process)
        await asyncio.gather(copying, return_exceptions=True)
        raise
    finally:
        os.close(reading)
    if code != 0:
        errors = [line for line in last if line.startswith(("E:", "W:"))] or last[-3:]
        raise Unavailable(f"mmdebstrap failed with code {code}: " + "; ".join(errors), code=code)


async def _end(process: asyncio.subprocess.Process) -> None:
    """End mmdebstrap and all that it started: it waits for apt and dpkg before it cleans up, as under a Ctrl-C."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _CLEANING_SECONDS)


def _copier(target: int) -> Callable[[int], None]:
    def copy(source: int) -> None:
        while chunk := os.read(source, 1 << 20):
            view = memoryview(chunk)
            while view:
                view = view[os.write(target, view) :]

    return copy


def _program(name: str, package: str) -> str:
    for directory in _SEARCH.split(":"):
        path = f"{directory}/{name}"
        if os.access(path, os.X_OK):
            return path
    raise Unavailable(
        f"{name} is not installed: install the package {package} (apt-get install {package})", package=package
    )
