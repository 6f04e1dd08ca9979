"""Prove that what is stored is what was promised: every blob hashed again, every reference followed."""

from collections.abc import Callable

from wherry.errors import WherryError
from wherry.oci.digest import ALGORITHMS
from wherry.registry import names
from wherry.registry.content import manifests
from wherry.registry.content.digesting import digest_of_value
from wherry.registry.content.repositories import Repositories
from wherry.registry.storage.driver import Missing


class Report:
    """What a check found.

    Attributes:
        repositories, manifests, blobs: how many were looked at.
        size: bytes that were hashed; a blob that several repositories share counts once.
        problems: one line each; empty when all is well.
    """

    def __init__(self) -> None:
        self.repositories = 0
        self.manifests = 0
        self.blobs = 0
        self.size = 0
        self.problems: list[str] = []


def check(repositories: Repositories, say: Callable[[str], None] = lambda _: None) -> Report:
    """Check everything; `say` gets every problem at once.

    A push or collection that goes on meanwhile does no harm: what is missing is looked for again at the end.
    """
    report = Report()
    hashed: dict[str, str] = {}
    for name in list(repositories.names()):
        report.repositories += 1
        before = len(report.problems)
        _check_blobs(repositories, name, report, hashed)
        _check_references(repositories, name, report)
        for problem in report.problems[before:]:
            say(problem)
    return report


def _check_blobs(repositories: Repositories, name: str, report: Report, hashed: dict[str, str]) -> None:
    driver = repositories.driver
    for algorithm in ALGORITHMS:
        for encoded in driver.list(names.blobs_key(name, algorithm)):
            digest = f"{algorithm}:{encoded}"
            try:
                names.digest(digest)
            except WherryError:
                report.problems.append(f"{name}: {digest[:160]!r} is not a blob's name")
                continue
            try:
                with driver.open(names.blob_key(name, digest)) as blob:
                    report.blobs += 1
                    identity = f"{algorithm} {blob.stat.identity}"
                    if identity not in hashed:
                        hashed[identity] = digest_of_value(blob, algorithm)
                        report.size += blob.size
            except Missing:
                continue  # deleted meanwhile; whether it is missed is asked below
            except (WherryError, OSError) as error:
                report.problems.append(f"{name}: {digest} cannot be read: {error}")
                continue
            if hashed[identity] != digest:
                report.problems.append(f"{name}: {digest} has the content of {hashed[identity]}")


def _check_references(repositories: Repositories, name: str, report: Report) -> None:
    try:
        snapshot = repositories.load(name)
    except WherryError as error:
        report.problems.append(f"{name}: {error}")
        return
    for digest, entry in snapshot.manifests.items():
        report.manifests += 1
        try:
            raw = repositories.read_manifest(name, digest)
            facts = manifests.read(raw, entry.media_type)
        except WherryError as error:
            if _still(repositories, name, digest):
                report.problems.append(f"{name}: manifest {digest}: {error}")
            continue
        if len(raw) != entry.size:
            report.problems.append(f"{name}: manifest {digest} has {len(raw)} bytes, its entry says {entry.size}")
        for blob, size in facts.blobs.items():
            stat = repositories.driver.stat(names.blob_key(name, blob))
            if (stat is None or stat.size != size) and _still(repositories, name, digest):
                what = "is missing" if stat is None else f"has {stat.size} bytes, not {size}"
                report.problems.append(f"{name}: manifest {digest} needs {blob}, which {what}")


def _still(repositories: Repositories, name: str, digest: str) -> bool:
    """Whether the repository lists the manifest by now."""
    try:
        return digest in repositories.load(name).manifests
    except WherryError:
        return False
