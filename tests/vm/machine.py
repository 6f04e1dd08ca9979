"""A virtual machine that boots, runs one program, and is gone."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.vm.kernel import kernel
from tests.vm.tree import Tree, populate

MODULES = (
    *("virtio_pci", "virtio_blk", "ext4", "overlay", "veth", "bridge", "br_netfilter", "fuse", "tun"),
    *("nf_tables", "nft_nat", "nft_masq", "nft_redir", "nft_ct", "nft_chain_nat", "nft_fib_inet", "nft_reject_inet"),
    *("nft_fib_ipv4", "nft_fib_ipv6", "nf_conntrack_netlink"),
    # by which CRIU asks for sockets
    *("unix_diag", "inet_diag", "tcp_diag", "udp_diag", "raw_diag", "netlink_diag", "af_packet_diag"),
)

# what only costs time in a machine that runs nothing but this
_KERNEL = "console=ttyS0 quiet panic=-1 mitigations=off nokaslr nowatchdog audit=0"

# in the initramfs: load modules, go to the real root
_EARLY = """\
#!/bin/busybox sh
export PATH=/bin
busybox mkdir -p /proc /dev /new
busybox mount -t proc none /proc
busybox mount -t devtmpfs none /dev
for module in {modules}; do
    busybox insmod /modules/$module.ko || echo "not loaded: $module"
done
busybox mount -t ext4 /dev/vda /new
busybox mount --move /dev /new/dev
busybox umount /proc
exec busybox switch_root /new /etc/init
"""

# process 1: what an init system would have done, with the pure v2 layout; nobody runs in the top of the cgroup tree
_INIT = """\
#!/bin/busybox sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PYTHONDONTWRITEBYTECODE=1
# the data root is on the disk: this kernel's tmpfs has no id-mapped mounts
export TMPDIR=/var/tmp
bb=/usr/bin/busybox
$bb mount -t proc none /proc
$bb mount -t sysfs none /sys
$bb mkdir -p /dev/pts /dev/shm
$bb mount -t devpts none /dev/pts
$bb mount -t tmpfs none /dev/shm
$bb mount -t tmpfs none /run
# a checkout below /tmp would be hidden
case {root}/ in /tmp/*) ;; *) $bb mount -t tmpfs none /tmp ;; esac
$bb mount -t cgroup2 none /sys/fs/cgroup
$bb mkdir -p /sys/fs/cgroup/init.scope /sys/fs/cgroup/user.slice/session-1.scope
echo 1 >/sys/fs/cgroup/init.scope/cgroup.procs
$bb ip link set lo up
$bb stty -F /dev/ttyS1 raw
(
    echo 0 >/sys/fs/cgroup/user.slice/session-1.scope/cgroup.procs
    cd {root} && exec {python} -m tests.vm.inside >/dev/ttyS1 </dev/null
)
echo "ended: $?"
$bb poweroff -f
"""


def _newc(files: Mapping[str, tuple[int, bytes]]) -> bytes:
    """A cpio archive as the kernel takes it (its initramfs buffer format): name -> (mode, content)."""
    out = bytearray()
    for number, (name, (mode, content)) in enumerate([*files.items(), ("TRAILER!!!", (0, b""))], 1):
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        out += bytes(-len(out) % 4)
        out += content + bytes(-len(content) % 4)
    return bytes(out)


def _initramfs(modules: Mapping[str, bytes]) -> bytes:
    files = dict.fromkeys(("bin", "modules", "dev", "new", "proc"), (0o040755, b""))
    files["bin/busybox"] = (0o100755, Path("/usr/bin/busybox").read_bytes())
    files["init"] = (0o100755, _EARLY.format(modules=" ".join(modules)).encode())
    files.update({f"modules/{name}.ko": (0o100644, content) for name, content in modules.items()})
    return _newc(files)


def _accelerators() -> list[str]:
    """Hardware help where the processor has it; a device node alone is no proof."""
    flags = Path("/proc/cpuinfo").read_text().split()
    if os.access("/dev/kvm", os.R_OK | os.W_OK) and ("vmx" in flags or "svm" in flags):
        return ["-accel", "kvm", "-cpu", "host"]
    return ["-accel", "tcg,thread=multi", "-cpu", "Nehalem"]  # wider registers are slow to emulate


class Results:
    """What the machine said.

    Attributes:
        seconds: check that ended -> how long it took.
        errors: check that failed -> its traceback.
        console: the kernel's and the programs' messages.
    """

    def __init__(self, lines: str, console: str) -> None:
        self.seconds: dict[str, float] = {}
        self.errors: dict[str, str] = {}
        self.console = console
        for line in lines.splitlines():
            if line.startswith("{"):
                said = json.loads(line)
                self.seconds[said["check"]] = said["seconds"]
                if said["error"]:
                    self.errors[said["check"]] = said["error"]


def boot(directory: Path, *, python: str, root: Path, seconds: float) -> Results:
    """Boot, run `tests.vm.inside`, and wait for the end.

    Args:
        directory: for the images and the console; the caller removes it.
        python: the interpreter, by its path in this checkout's environment.
        root: the checkout.
        seconds: a machine that goes on longer is killed; what it said until then counts.
    """
    found = kernel()
    top = directory / "tree"
    top.mkdir()
    tree = Tree(top)
    populate(tree)
    tree.write("/etc/init", _INIT.format(root=root, python=python), 0o755)
    disk, initramfs = directory / "root.ext4", directory / "initramfs"
    tree.image(disk, 1024)
    initramfs.write_bytes(_initramfs(found.modules(MODULES)))
    console, results = directory / "console", directory / "results"
    command = [
        # whatever becomes of us, the machine ends
        *("timeout", "-k", "1", str(int(seconds) + 10)),
        *("nice", "-n", "5", "qemu-system-x86_64", *_accelerators(), "-m", "1024", "-smp", "2"),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-sandbox", "on"),
        *("-kernel", str(found.image), "-initrd", str(initramfs), "-append", _KERNEL),
        *("-drive", f"file={disk},format=raw,if=virtio,cache=unsafe"),
        *("-serial", f"file:{console}", "-serial", f"file:{results}"),
    ]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as qemu:
        try:
            said, _ = qemu.communicate(timeout=seconds)
            ended = f"qemu ended with {qemu.returncode}: {said.decode(errors='replace')}"
        except subprocess.TimeoutExpired:
            qemu.terminate()  # `timeout` hands it on
            ended = f"killed after {seconds} s"
    return Results(_text(results), f"{_text(console)}\n{ended}")


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
