"""The log driver `journald` with a journal daemon of systemd's own, in a mount namespace of the test's."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import WHERRYD, EngineProcess, running, until

pytestmark = pytest.mark.root

JOURNALD = "/lib/systemd/systemd-journald"
ID = "0123456789abcdef0123456789abcdef"


class Journal:
    """A journal daemon, and what it has taken."""

    def __init__(self, base: Path) -> None:
        self._files = base / "files"
        self._files.mkdir(parents=True)
        config = base / "journald.conf"
        config.write_text("[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nRateLimitIntervalSec=0\n")
        machine = base / "machine-id"
        machine.write_text(f"{ID}\n")
        script = (
            "set -e; mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/journal /run/log/journal; "
            f"mount --bind {self._files} /run/log/journal; mount --bind {machine} /etc/machine-id; "
            f"mount --bind {config} /etc/systemd/journald.conf; exec {JOURNALD}"
        )
        self.process = subprocess.Popen(
            ["unshare", "-m", "--propagation", "private", "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(self._listens, "the journal listens")

    def _listens(self) -> bool:
        assert self.process.poll() is None
        root = Path(f"/proc/{self.process.pid}/root")
        return (root / "run/log/journal" / ID).exists() and (root / "run/systemd/journal/socket").exists()

    def entries(self, *matches: str) -> list[dict[str, Any]]:
        """What journalctl(1) finds, oldest first."""
        done = subprocess.run(
            ["journalctl", "--directory", str(self._files), "--output", "json", "--all", "--no-pager", *matches],
            capture_output=True,
            check=False,
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    def end(self) -> None:
        """End the daemon; its mounts go with it."""
        self.process.terminate()
        self.process.wait(20)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Give a journal."""
    assert Path(JOURNALD).exists() and shutil.which("journalctl"), "Debian's package `systemd` is not installed"
    found = Journal(tmp_path / "journal")
    try:
        yield found
    finally:
        found.end()


@pytest.fixture
def beside(journal: Journal) -> Iterator[EngineProcess]:
    """Give an engine with busybox in it."""
    program = ("nsenter", "--mount", f"--target={journal.process.pid}", WHERRYD)
    with running(EngineProcess(program=program)) as engine:
        yield engine


def test_what_the_journal_has(beside: EngineProcess, journal: Journal) -> None:
    """dockerd's fields, for every line; `logs` has the same lines; bytes arrive as they were; it has to be there."""
    engine = beside
    flags = ("--log-driver", "journald", "--log-opt", "tag={{.Name}}/{{.ID}}", "--log-opt", "labels=tier.x")
    script = r"echo out; echo err >&2; printf 'a\001b\377c\n'; seq 1 3000; head -c 40000 /dev/zero | tr '\0' x"
    engine.docker("run", "--name", "jo", "-l", "tier.x=front", *flags, "busybox", "sh", "-c", script)
    id_ = engine.docker("inspect", "-f", "{{.Id}}", "jo").out.strip()
    until(lambda: len(journal.entries("CONTAINER_NAME=jo")) == 3006, "all has arrived")
    entries = journal.entries(f"CONTAINER_ID_FULL={id_}")
    assert len(entries) == 3006
    for entry in entries:
        told = {name: entry[name] for name in ("CONTAINER_ID", "CONTAINER_NAME", "IMAGE_NAME", "TIER_X")}
        assert told == {"CONTAINER_ID": id_[:12], "CONTAINER_NAME": "jo", "IMAGE_NAME": "busybox", "TIER_X": "front"}
        assert entry["CONTAINER_TAG"] == entry["SYSLOG_IDENTIFIER"] == f"jo/{id_[:12]}"
    said = [entry["MESSAGE"] for entry in entries]
    assert [entry["MESSAGE"] for entry in journal.entries("CONTAINER_NAME=jo", "PRIORITY=3")] == ["err"]
    assert {entry["PRIORITY"] for entry in entries} == {"3", "6"}
    assert bytes(next(text for text in said if isinstance(text, list))) == b"a\x01b\xffc"
    assert [text for text in said if isinstance(text, str) and text.isdigit()] == [str(n) for n in range(1, 3001)]
    long = [entry for entry in entries if isinstance(entry["MESSAGE"], str) and entry["MESSAGE"].startswith("xx")]
    assert [entry.get("CONTAINER_PARTIAL_MESSAGE") for entry in long] == ["true", "true", None]
    assert "".join(entry["MESSAGE"] for entry in long) == "x" * 40_000
    read = engine.docker("logs", "jo")
    assert read.out.endswith("3000\n" + "x" * 40_000)
    assert read.err == "err\n"
    assert engine.docker("inspect", "-f", "{{.LogPath}}", "jo").out == "\n"
    # and without a journal nothing is started that could not be heard
    journal.end()
    refused = engine.docker("run", "--name", "no", "--log-driver", "journald", "busybox", "true", code=125)
    assert "failed to initialize logging driver: journald: connect: connection refused" in refused.err
    assert engine.docker("inspect", "-f", "{{.State.Status}}", "no").out == "created\n"
