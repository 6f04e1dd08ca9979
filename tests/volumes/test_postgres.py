"""A database whose data is in a volume: killed in every way, no transaction that was confirmed is lost.

The first run makes an image tree of Debian's package with mmdebstrap, which takes a minute and stays in the test cache:
`pytest --long tests/volumes/test_postgres.py`.
"""

import os
import re

import pytest

from tests import debian
from tests.e2e.harness import EngineProcess, until

HOME = "/var/lib/postgresql"
_SERVER = f"""
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH; mkdir -p {HOME}/run
test -s {HOME}/data/PG_VERSION || initdb -D {HOME}/data -A trust >/dev/null
exec postgres -D {HOME}/data -k {HOME}/run -c listen_addresses=
"""
_CLIENT = "PATH=$(echo /usr/lib/postgresql/*/bin):$PATH; exec"
_CLIENTS = 4

pytestmark = [pytest.mark.root, pytest.mark.long]


class Database:
    """One PostgreSQL with its data in the volume `pgdata`."""

    def __init__(self, engine: EngineProcess) -> None:
        self.engine = engine
        self.name = "db1"

    def start(self, *flags: str) -> None:
        """Make its container and wait until it answers."""
        self.engine.docker(
            "run", "-d", "--name", self.name, "-u", "postgres", "--network", "none", *flags, "pg", "sh", "-c", _SERVER
        )
        self.wait()

    def wait(self) -> None:
        """Wait until it answers."""
        until(lambda: self.query("select 1", check=False) == "1", "the database answers", 60)

    def query(self, text: str, *, check: bool = True) -> str:
        """Ask it something; one value."""
        command = f"{_CLIENT} psql -h {HOME}/run -Atc '{text}' postgres"
        return self.engine.docker("exec", self.name, "sh", "-c", command, check=check).out.strip()

    def count(self) -> int:
        """How many transactions of pgbench it has."""
        return int(self.query("select count(*) from pgbench_history", check=False) or -1)

    def load(self, number: int, seconds: int) -> str:
        """Begin a load from a container of its own; returns its name."""
        name = f"load{number}"
        bench = f"{_CLIENT} pgbench -h {HOME}/run -n -c {_CLIENTS} -T {seconds} postgres"
        self.engine.docker(
            *("run", "-d", "--name", name, "-u", "postgres", "--network", "none"),
            *("--volumes-from", self.name, "pg", "sh", "-c", bench),
        )
        return name

    def confirmed(self, load: str) -> int:
        """How many transactions were confirmed to the load's clients, once it has ended."""
        self.engine.docker("wait", load)
        told = self.engine.docker("logs", load)
        found = re.search(r"number of transactions actually processed: (\d+)", told.out + told.err)
        assert found, told
        return int(found[1])

    def monitor(self) -> int:
        """The pid of its monitor."""
        path = self.engine.docker("inspect", "-f", "{{.NetworkSettings.SandboxKey}}", self.name).out
        return int(path.split("/")[2])


def test_shown_by_2_no_committed_transaction_is_lost(own_engine: EngineProcess) -> None:
    """`kill -9` of the engine, of the monitor and of the container under load; then the data goes to a second one."""
    engine = own_engine
    engine.run("docker", "import", str(debian.tree("postgresql", ["postgresql"])), "pg")
    database = Database(engine)
    database.start("-v", f"pgdata:{HOME}")
    init = f"{_CLIENT} pgbench -h {HOME}/run -q -i -s 1 postgres"
    engine.docker("exec", database.name, "sh", "-c", init)
    before = database.count()
    for number, victim in enumerate(("wherryd", "monitor", "container")):
        load = database.load(number, 6)
        until(lambda: database.count() > before + 50, "the load is under way", 60)  # noqa: B023 - called at once
        if victim == "wherryd":
            engine.kill()
            engine.start()
        elif victim == "monitor":
            os.kill(database.monitor(), 9)
        else:
            engine.docker("kill", database.name)
        confirmed = database.confirmed(load)
        if victim != "wherryd":
            until(
                lambda: engine.docker("inspect", "-f", "{{.State.Running}}", database.name).out == "false\n",
                "the end is known",
            )
            assert engine.docker("inspect", "-f", "{{.State.ExitCode}}", database.name).out == "137\n"
            engine.docker("start", database.name)
        database.wait()
        after = database.count()
        # what was under way when it was killed may be there or not
        assert before + confirmed <= after <= before + confirmed + _CLIENTS, victim
        print(f"{victim}: {confirmed} transactions confirmed, {after - before} found")
        before = after
    engine.docker("stop", database.name)
    second = Database(engine)
    second.name = "db2"
    second.start("--volumes-from", database.name)
    assert second.count() == before
    load = second.load(9, 2)
    assert second.count() >= before
    confirmed = second.confirmed(load)
    assert second.count() == before + confirmed
    assert "could not" not in engine.docker("logs", "db2").err
