"""Runs in the virtual machine: every check prints one line of JSON, with a traceback where it failed."""

import json
import shutil
import sys
import time
import traceback
from collections.abc import Callable

from tests.e2e import checkpoint_scenarios
from tests.vm import checks_cgroups, checks_engine
from tests.vm.names import names


def _report(name: str, check: Callable[[], None]) -> bool:
    start = time.monotonic()
    error = None
    try:
        check()
    except Exception:  # noqa: BLE001 - whatever it is, the one who reads the results wants it
        error = traceback.format_exc()
    print(json.dumps({"check": name, "error": error, "seconds": round(time.monotonic() - start, 2)}), flush=True)
    return error is None


def main() -> None:
    for name in names(checks_cgroups):
        _report(f"cgroups-{name}", getattr(checks_cgroups, f"check_{name}"))
    engine = checks_engine.Engine()

    def start() -> None:
        engine.start()
        engine.wherry("image", "bootstrap", "busybox")

    if not _report("engine-starts", start):
        return

    def run(name: str, what: Callable[[checks_engine.Engine], None]) -> None:
        def check() -> None:
            try:
                what(engine)
            finally:
                if engine.process is None:
                    engine.start()
                engine.remove_all()
            engine.assert_nothing_runs()

        _report(name, check)

    for name in names(checks_engine):
        run(f"engine-{name}", getattr(checks_engine, f"check_{name}"))
    # as the host has it: Debian 13 has none
    for name in checkpoint_scenarios.NAMES if shutil.which("criu") else ():
        run(f"checkpoint-{name}", getattr(checkpoint_scenarios, name))

    def end() -> None:
        engine.assert_no_traceback()
        engine.stop()
        left = checks_engine.TOP / engine.roots.scope
        assert not left.exists(), [str(path) for path in left.glob("**/")]
        assert engine.run("ip", "-o", "link", "show", "type", "bridge").out == ""
        assert engine.run("nft", "list", "tables").out == ""

    _report("engine-ends", end)


if __name__ == "__main__":
    main()
    sys.exit(0)
