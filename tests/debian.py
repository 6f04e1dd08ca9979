"""Root file systems of Debian's packages, made once by mmdebstrap and kept in the tests' cache."""

import asyncio
import os
import platform
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from wherry.images.debian import apt_lines, known_suites

CACHE = Path("/var/cache/wherry-tests")
_NOT_NEEDED = ("/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*")


def tree(
    name: str, packages: Sequence[str], *, variant: str = "minbase", without: Sequence[str] = (), architecture: str = ""
) -> Path:
    """An archive of a root of the machine's own release, from the machine's own mirrors.

    Args:
        name: of the file in the cache; another one for other packages.
        packages: what is installed beside the variant's.
        variant: mmdebstrap's.
        without: paths that are left out.
        architecture: Debian's name of one whose programs run here without help; the machine's own by default.
    """
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    found = CACHE / f"{name}-{suite}.tar"
    if not found.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        making = found.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tar")
        excluded = [f"--dpkgopt=path-exclude={path}" for path in (*_NOT_NEEDED, *without)]
        # mmdebstrap would look for arch-test, which is not there
        foreign = (f"--architectures={architecture}", "--skip=check/qemu") if architecture else ()
        # the release alone: the lists of updates change daily, and a mirror that is amid a sync gives them to nobody
        release, *_ = asyncio.run(apt_lines(known_suites()[suite]))
        try:
            subprocess.run(
                [
                    *("mmdebstrap", "--quiet", f"--variant={variant}", f"--include={','.join(packages)}"),
                    *(*foreign, *excluded, suite, str(making), release),
                ],
                check=True,
                timeout=600,
            )
            making.rename(found)
        finally:
            making.unlink(missing_ok=True)
    return found
