"""ufw and firewalld from Debian's packages, unpacked beside the machine's own files: nothing is installed or started.

Each runs in a mount namespace in which the machine's root is the lower layer of an overlay, and in the network
namespace that is its host. `python -m tests.network.host_firewalls` fetches the packages ahead of the tests.
"""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.harness import until, within

PACKAGES = ("ufw", "firewalld")
CACHE = Path("/var/cache/wherry-tests/host-firewalls")
SETUP = """
set -e
mount -t tmpfs tmpfs /mnt
mkdir -p /mnt/upper/usr/bin /mnt/upper/usr/sbin /mnt/upper/usr/lib /mnt/work /mnt/root
for name in bin sbin lib; do ln -s usr/$name /mnt/upper/$name; done
for package in "$1"/*.deb; do dpkg-deb --fsys-tarfile "$package" | tar -xC /mnt/upper --keep-directory-symlink; done
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
cd /mnt/root
mount --rbind /proc proc
mount --rbind /dev dev
mount -t sysfs sysfs sys
mount -t tmpfs tmpfs run
# what the package's script would have put in place; no module is to be loaded
cp usr/share/ufw/iptables/*.rules usr/share/ufw/*.conf usr/share/ufw/*.init etc/ufw/
echo IPT_MODULES= >>etc/default/ufw
exec chroot . sh -c 'echo ready; exec cat'
"""
ENVIRONMENT = ("PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/bus")
BUS = """<busconfig><type>system</type><listen>unix:path=/run/bus</listen><auth>EXTERNAL</auth>
<policy context="default">
<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
</policy></busconfig>"""


def packages() -> Path:
    """The directory with the packages that this machine lacks; the first call downloads them (about 1 MB).

    Raises:
        CalledProcessError: apt has none to give.
    """
    if not CACHE.exists():
        CACHE.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE.parent, prefix="fetch-") as name:
            work = Path(name, "packages")
            (work / "partial").mkdir(parents=True)
            options = ("-o", "APT::Sandbox::User=root", "-o", f"Dir::Cache::archives={work}")
            download = ["apt-get", *options, "install", "-q", "-y", "-d", "--no-install-recommends", *PACKAGES]
            if subprocess.run(download, check=False, capture_output=True).returncode:
                subprocess.run(["apt-get", "update", "-q"], check=True, capture_output=True)
                subprocess.run(download, check=True, capture_output=True)
            with contextlib.suppress(OSError):  # another was quicker
                os.rename(work, CACHE)
    return CACHE


class Box:
    """A place for the two programs.

    Args:
        namespace: a descriptor of the network namespace that is their host.
    """

    def __init__(self, namespace: int) -> None:
        setup = ("unshare", "-m", "sh", "-c", SETUP, "sh", str(packages()))
        self._holder = subprocess.Popen(
            within(namespace, *setup), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"ready\n":
            raise AssertionError(self._holder.communicate(timeout=20)[1].decode())

    def enter(self, *words: str) -> tuple[str, ...]:
        """The words that execute a command inside."""
        return ("nsenter", "-t", str(self._holder.pid), "-m", "-n", "-r", *words)

    def run(self, *words: str, check: bool = True) -> str:
        """Run a command inside; gives its output."""
        done = subprocess.run(
            self.enter("env", "-i", *ENVIRONMENT, *words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def save(self) -> str:
        """What iptables-nft has, without counters."""
        return "\n".join(line.partition(" [")[0] for line in self.run("iptables-save").splitlines() if line[:1] != "#")

    @contextlib.contextmanager
    def firewalld(self) -> Iterator[None]:
        """Have firewalld and a bus for it run meanwhile."""
        self.run("sh", "-c", f"echo '{BUS}' >/run/bus.conf")
        bus = ("dbus-daemon", "--config-file=/run/bus.conf", "--nofork", "--nopidfile", "--nosyslog")
        daemon = ("/usr/bin/python3", "/usr/sbin/firewalld", "--nofork", "--nopid")
        with self._running(*bus):
            until(lambda: self.run("sh", "-c", "test -S /run/bus && echo", check=False), "the bus listens")
            with self._running(*daemon) as process:

                def runs() -> bool:
                    assert process.poll() is None, self.run("sh", "-c", "cat /var/log/firewalld")
                    return self.run("firewall-cmd", "--state", check=False) == "running\n"

                until(runs, "firewalld runs", 40)
                yield

    @contextlib.contextmanager
    def _running(self, *words: str) -> "Iterator[subprocess.Popen[bytes]]":
        null = subprocess.DEVNULL
        process = subprocess.Popen(self.enter("env", *ENVIRONMENT, *words), stdin=null, stdout=null, stderr=null)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def close(self) -> None:
        """End what holds the mounts; they go with it."""
        self._holder.communicate(timeout=20)


if __name__ == "__main__":
    packages()
