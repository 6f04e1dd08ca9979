"""The machine's root file system: this interpreter, the project and its libraries, busybox, nft, ip, CRIU, no more.

Everything keeps its path, so the virtual environment works as it does outside. The image is a file that is thrown away.
"""

import importlib.metadata
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAMS = ("busybox", "ip", "nft", "readlink", "sh", "tini")
# what CRIU executes for the content of tmpfs mounts comes with it
CRIU = ("criu", "gzip", "tar")
# loaded by name at run time, so that nobody lists them
LIBRARIES = ("libseccomp.so.2", "libnftables.so.1", "libgcc_s.so.1")
DIRECTORIES = ("dev", "proc", "sys", "run", "tmp", "var/lib", "var/tmp", "root", "mnt")
# of the standard library: large, and never imported by the engine
UNUSED = frozenset(["config", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages", "test", "tkinter"])


class Tree:
    """A directory that becomes the machine's root.

    Args:
        top: an empty directory.
    """

    def __init__(self, top: Path) -> None:
        self._top = top
        for name in ("bin", "sbin", "lib", "lib64"):
            if Path("/", name).is_symlink():
                (top / name).symlink_to(os.readlink(f"/{name}"))
                (top / os.readlink(f"/{name}")).mkdir(parents=True, exist_ok=True)
        for name in DIRECTORIES:
            (top / name).mkdir(parents=True, exist_ok=True)

    def at(self, path: Path | str) -> Path:
        """Where a path of the machine is in this directory; its parents are made."""
        # symbolic links of the tree itself are relative, or lead where the same path leads outside
        target = self._top / str(Path(path).parent.resolve()).lstrip("/") / Path(path).name
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def add(self, path: Path) -> None:
        """Copy a file or a link, with what the link leads to, and the libraries of an object file."""
        target = self.at(path)
        if os.path.lexists(target):
            return
        if path.is_symlink():
            target.symlink_to(os.readlink(path))
            self.add(Path(os.path.normpath(path.parent.resolve() / os.readlink(path))))
            return
        shutil.copy2(path, target)
        if path.stat().st_mode & stat.S_IXUSR or ".so" in path.name:
            for library in needed(path):
                self.add(library)

    def add_tree(self, path: Path, unused: Iterable[str] = ()) -> None:
        """Copy a directory, or a file; `unused` names entries of the top that are left out."""
        if not path.is_dir():
            self.add(path)
            return
        for entry in sorted(path.iterdir()):
            if entry.name.partition("-")[0] in unused or entry.name in unused:
                continue
            if entry.is_dir() and not entry.is_symlink():
                self.add_tree(entry)
            else:
                self.add(entry)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Make a file of the machine's own."""
        target = self.at(path)
        target.write_text(text)
        target.chmod(mode)

    def image(self, path: Path, mebibytes: int) -> None:
        """Make an ext4 image of the directory."""
        command = ["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-E", "lazy_itable_init=1"]
        subprocess.run([*command, "-d", self._top, path, f"{mebibytes}M"], check=True, timeout=120, capture_output=True)


def needed(path: Path) -> Iterator[Path]:
    """The libraries that the loader takes for an object file."""
    with open(path, "rb") as file:
        if file.read(4) != b"\x7fELF":
            return
    done = subprocess.run(["ldd", path], capture_output=True, text=True, timeout=30, check=False)
    for match in re.finditer(r"(?:^|=>)\s*(/\S+) \(0x", done.stdout, re.MULTILINE):
        yield Path(match[1])


def _library(name: str) -> Path:
    for directory in (sysconfig.get_config_var("MULTIARCH") or "", f"{os.uname().machine}-linux-gnu", "."):
        for above in ("/usr/lib", "/lib", "/usr/lib64"):
            path = Path(above, directory, name)
            if path.exists():
                return path
    raise LookupError(f"{name} is not installed")


def _distributions() -> Iterator[importlib.metadata.Distribution]:
    """The project's dependencies, and theirs."""
    seen: set[str] = set()
    todo = ["wherry"]
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # for another platform, or an extra that nobody asked for
        yield found
        for line in found.requires or ():
            match = re.match(r"[\w.-]+", line)
            if match is not None and "extra ==" not in line:
                todo.append(match[0])


def has_criu() -> bool:
    """Whether the machine gets CRIU: Debian 13 has none. Where Debian has one it must be installed."""
    return shutil.which("criu", path=PATH) is not None or platform.freedesktop_os_release().get("VERSION_ID") == "12"


def populate(tree: Tree) -> None:
    """Put in what the engine and `tests/vm/inside.py` need."""
    for name in (*PROGRAMS, *(CRIU if has_criu() else ())):
        program = shutil.which(name, path=PATH)
        if program is None:
            raise LookupError(f"{name} is not installed")
        tree.add(Path(program))
    for name in LIBRARIES:
        tree.add(_library(name))
    for name in ("passwd", "group", "nsswitch.conf"):
        if os.path.exists(f"/etc/{name}"):
            tree.add(Path("/etc", name))
    # the interpreter: the environment's links, then where they lead
    bin_ = Path(sys.executable).parent
    for path in bin_.iterdir():
        if path.name.startswith(("python", "wherry")):
            tree.add(path)
    if (bin_.parent / "pyvenv.cfg").exists():
        tree.add(bin_.parent / "pyvenv.cfg")
    for kind in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}:
        base = Path(kind.replace(sys.prefix, sys.base_prefix, 1))
        if base.is_dir():
            tree.add_tree(base, UNUSED | {"dist-packages"})
    # what the project depends on, and the project itself
    for found in _distributions():
        for part in {file.parts[0] for file in found.files or ()}:
            path = Path(str(found.locate_file(part)))
            if part not in ("..", "__pycache__") and path.exists():
                tree.add_tree(path)
    for directory in ("src", "tests", "scripts"):
        tree.add_tree(ROOT / directory)
    for name in ("src", "tests"):
        # a machine without hardware help takes ten times as long to compile
        top = tree.at(ROOT / name)
        command = [sys.executable, "-m", "compileall", "-q", "-s", str(top), "-p", str(ROOT / name), str(top)]
        subprocess.run(command, check=True, timeout=120)
