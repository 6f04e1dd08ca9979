"""Debian's cloud kernel, unpacked into a cache: the newest one that `linux-image-cloud-<arch>` depends on.

`python tests/vm/kernel.py` fetches it ahead of the tests, and says nothing when it is there.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

CACHE = Path("/var/cache/wherry-tests")


class Kernel:
    """An unpacked kernel package.

    Attributes:
        image: what the machine boots.
    """

    def __init__(self, directory: Path) -> None:
        (self.image,) = directory.glob("boot/vmlinuz-*")
        (modules,) = (path for path in directory.glob("**/lib/modules/*") if path.is_dir())
        self._built_in = {_name(line) for line in (modules / "modules.builtin").read_text().split()}
        self._files = {_name(path.name): path for path in modules.glob("kernel/**/*.ko*")}

    def modules(self, wanted: Iterable[str]) -> dict[str, bytes]:
        """Read modules, what they depend on first: name -> the object file. What is built in needs none.

        Raises:
            LookupError: the kernel has no such module.
        """
        found: dict[str, bytes] = {}

        def add(name: str) -> None:
            if name in found or name in self._built_in:
                return
            if name not in self._files:
                raise LookupError(f"{self.image.name} has no module {name}")
            path = self._files[name]
            content = path.read_bytes()
            if path.suffix == ".xz":
                import lzma  # Debian 13's; an interpreter may be built without it

                content = lzma.decompress(content)
            for match in re.finditer(rb"\0depends=([^\0]*)\0", content):
                for other in match[1].decode().split(","):
                    if other:
                        add(other.replace("-", "_"))
            found[name] = content

        for name in wanted:
            add(name)
        return found


def _name(path: str) -> str:
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def _apt(*words: str, cwd: Path | None = None) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def _download(directory: Path) -> Path:
    """Fetch the package that the name without a version stands for."""
    architecture = _apt("dpkg", "--print-architecture").strip()
    depends = _apt("apt-cache", "depends", f"linux-image-cloud-{architecture}")
    package = re.search(r"Depends: (linux-image-\S+)", depends)
    if package is None:
        raise OSError(f"linux-image-cloud-{architecture} depends on no kernel: {depends}")
    # a user that apt would change to cannot write here, and apt warns about it
    _apt("apt-get", "-o", "APT::Sandbox::User=root", "download", "-q", package[1], cwd=directory)
    (found,) = directory.glob("*.deb")
    return found


def kernel() -> Kernel:
    """The cached kernel; the first call downloads it (27 MB).

    Raises:
        OSError: apt has none to give.
    """
    kept = sorted(CACHE.glob("linux-image-*/complete"), key=lambda path: path.stat().st_mtime)
    if not kept:
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="fetch-") as name:
            work = Path(name)
            try:
                package = _download(work)
            except OSError:
                _apt("apt-get", "update", "-q")
                package = _download(work)
            tree = work / "tree"
            subprocess.run(["dpkg-deb", "-x", package, tree], check=True, timeout=120)
            for bulky in tree.glob("**/lib/modules/*/kernel/*"):
                if bulky.name not in ("arch", "crypto", "drivers", "fs", "lib", "net"):
                    shutil.rmtree(bulky)
            (tree / "complete").touch()
            target = CACHE / package.stem
            if not (target / "complete").exists():
                shutil.rmtree(target, ignore_errors=True)
                os.rename(tree, target)
        kept = [target / "complete"]
    return Kernel(kept[-1].parent)


if __name__ == "__main__":
    kernel()
