"""The distribution specification's own test suite, built once from its Go module and kept in the tests' cache."""

import asyncio
import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.debian import CACHE
from tests.peers import SUITE
from wherry.images.debian import apt_lines, known_suites

MODULE = "github.com/opencontainers/distribution-spec/conformance"
VERSION = "v0.0.0-20260831232431-97274622c111"
_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
_BUILD = f'CGO_ENABLED=0 GOPATH=/go chroot "$1" go install {MODULE}@{VERSION}'


def program() -> Path:
    """The suite's program; the first call builds it with Debian 13's Go, which takes some minutes, and root.

    Raises:
        CalledProcessError: the compiler or the module could not be fetched; `stderr` has the reason.
    """
    found = CACHE / f"conformance-{VERSION}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "conformance.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            making = Path(tempfile.mkdtemp(prefix="conformance.", dir=CACHE))
            try:
                _build(making / "root")
                (making / "root/go/bin/conformance").rename(making / "program")
                (making / "program").rename(found)
            finally:
                shutil.rmtree(making, ignore_errors=True)
    return found


def _build(root: Path) -> None:
    # the authorities of this machine are those that its mirrors are known to
    authorities = [f"--customize-hook=upload {_AUTHORITIES} {_AUTHORITIES}"] if os.path.exists(_AUTHORITIES) else []
    command = [
        *("mmdebstrap", "--quiet", "--variant=minbase", "--include=golang-go,ca-certificates"),
        *(*authorities, f"--customize-hook={_BUILD}"),
        *(SUITE, str(root), *asyncio.run(apt_lines(known_suites()[SUITE]))),
    ]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=1800)
