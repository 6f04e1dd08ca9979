"""The Docker programs that the suite compares with: Debian 13's, the same ones on every machine.

`make peers` unpacks them once into a root of their own below the cache. The docker command and Compose are executed
from there directly; dockerd runs in a mount namespace in which that root is `/`. Nothing is installed on the machine,
and what `PATH` has is not used: `prepare` puts the suite's programs first.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.debian import CACHE
from wherry.images.debian import apt_lines, known_suites

SUITE = "trixie"
PACKAGES = (
    *("docker.io", "docker-cli", "docker-compose", "docker-buildx", "iptables", "iproute2"),
    # what dockerd executes: ps for `docker top`, git for `docker build` of a repository, xz for `docker load`
    *("ca-certificates", "git", "procps", "xz-utils"),
)
_PLUGINS = "usr/libexec/docker/cli-plugins"
_NOT_NEEDED = ("/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*")
# Arguments: the packages' root, what to execute. The directories named by SHARED keep their paths. The new root is a
# tmpfs, because several dockerds use the packages at once. It is a pivot, not a chroot: runc's exec enters the mount
# namespace of a container, which must not lead back to the machine's root.
_ENTER = """
set -eu
packages=$1; shift
mount -t tmpfs -o mode=755 tmpfs "$packages/mnt"
cd "$packages/mnt"
mkdir usr proc sys dev run tmp old root var var/lib var/tmp opt
chmod 1777 tmp var/tmp
ln -s /run var/run
cp -a "$packages/etc" .
for link in bin sbin lib lib32 lib64 libx32; do [ ! -L "$packages/$link" ] || cp -a "$packages/$link" .; done
for file in resolv.conf hosts hostname localtime; do
    rm -f "etc/$file"; [ ! -e "/etc/$file" ] || cp -L "/etc/$file" etc
done
mount --bind "$packages/usr" usr
mount -o remount,bind,ro usr
for directory in proc sys dev; do mount --rbind "/$directory" "$directory"; done
IFS=:
for directory in $SHARED; do mkdir -p ".$directory"; mount --rbind "$directory" ".$directory"; done
unset IFS SHARED
pivot_root . old
cd /
umount -l /old
rmdir /old
exec "$@"
"""


def place() -> Path:
    """Return the directory of this list of packages: `root` is their root, `bin` what goes on the PATH."""
    architecture = os.uname().machine
    digest = hashlib.sha256(" ".join((SUITE, architecture, *PACKAGES)).encode()).hexdigest()
    return CACHE / f"peers-{SUITE}-{digest[:12]}"


def made() -> bool:
    """Whether the programs are there."""
    return (place() / "bin").is_dir()


def available() -> bool:
    """Whether a test may run dockerd: as root, with the programs there."""
    return os.geteuid() == 0 and made()


def make() -> Path:
    """Unpack the programs, unless they are there; takes a minute, and root. Returns their place.

    Raises:
        CalledProcessError: mmdebstrap failed; its messages are in `stderr`.
    """
    found = place()
    CACHE.mkdir(parents=True, exist_ok=True)
    with _locked(CACHE / "peers.lock"):
        if made():
            return found
        print(f"unpacking the Docker programs of Debian {SUITE} into {found} (about a minute, once)", flush=True)
        making = Path(tempfile.mkdtemp(prefix=f"{found.name}.", dir=CACHE))
        try:
            _unpack(making / "root")
            (making / "bin").mkdir()
            (making / "bin/docker").symlink_to("../root/usr/bin/docker")
            (making / "bin/docker-compose").symlink_to(f"../root/{_PLUGINS}/docker-compose")
            making.chmod(0o755)
            making.rename(found)
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            raise
    return found


def _unpack(root: Path) -> None:
    command = [
        *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}"),
        *(f"--dpkgopt=path-exclude={path}" for path in _NOT_NEEDED),
        *(SUITE, str(root), *asyncio.run(apt_lines(known_suites()[SUITE]))),
    ]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=1200)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def prepare() -> None:
    """Put the programs first on this process's PATH, so that `docker` in any test is the suite's."""
    first = str(place() / "bin")
    words = os.environ.get("PATH", os.defpath).split(":")
    if words[0] != first:
        os.environ["PATH"] = ":".join((first, *(word for word in words if word != first)))


def docker() -> str:
    """The path of the docker command."""
    return str(place() / "bin/docker")


def compose() -> str:
    """The path of Compose as a command of its own."""
    return str(place() / "bin/docker-compose")


def plugins(config: Path, *names: str) -> None:
    """Give the docker command of a `DOCKER_CONFIG` its plugins.

    Args:
        config: the directory; made where it is missing.
        names: `buildx`, `compose`.
    """
    directory = config / "cli-plugins"
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        (directory / f"docker-{name}").symlink_to(place() / f"root/{_PLUGINS}/docker-{name}")


def inside(*program: str, shared: Iterable[Path | str] = (), enter: tuple[str, ...] = ()) -> list[str]:
    """The words that execute a program with the packages' root as its own.

    Args:
        program: what is executed, and its arguments.
        shared: directories that have the same path, and the same content, inside and outside; the directory for
            temporary files always has.
        enter: words that come first: those of `nsenter` or `unshare`, for other namespaces.
    """
    directories = sorted({str(Path(path).resolve()) for path in (tempfile.gettempdir(), *shared)})
    needed = [d for d in directories if not any(d.startswith(f"{above}/") for above in directories)]
    return [
        *(*enter, "unshare", "-m", "--propagation", "private", "env", f"SHARED={':'.join(needed)}"),
        *("PATH=/usr/sbin:/usr/bin:/sbin:/bin", "sh", "-c", _ENTER, "peer", str(place() / "root"), *program),
    ]


def main() -> int:
    """`make peers`; returns the exit code."""
    if os.geteuid() != 0:
        print("only root can unpack the Docker programs that tests compare with: make peers", file=sys.stderr)
        return 1
    try:
        make()
    except subprocess.CalledProcessError as error:
        print(error.stderr, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
