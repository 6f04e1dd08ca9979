"""What a monitor writes about its container: `state.json` (volatile, always current) and `exit.json` (durable).

state.json  {"v", "id", "status": "starting|running|paused|stopped", "monitor": {"pid", "start_time"},
             "init": {"pid", "start_time"} | null, "started_at": ns, "exit": {…} | null, "netns_fd": n | null,
             "cgroup", "endpoints": […],
             "execs": [{"exec_id", "pid", "start_time", "code": n | null, "finished_at": ns once there is a code}],
             "frozen_for": the verb that has it paused for its own length only (`commit`), or empty,
             "restart_count": how often a policy has started it again, this time included}
exit.json   {"v", "code", "signal": n | null, "oom", "started_at": ns, "finished_at": ns, "pid": n | null,
             "error": {"class", "message", "facts"} | null, "restart_count"}

`starting` has no init yet. exit.json is written before anybody is told that the container has ended.
"""

import os
import time
from json import dumps

from wherry.linux.channel import VERSION
from wherry.linux.files import write_atomic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# how many ended execs a state names, for a wherryd that was away when they ended
KEPT_EXECS = 64
_MAX_ERRORS = 64 * 1024


class Record:
    """The state of one container, and its two files.

    Args:
        run_dir: directory of state.json.
        data_dir: directory of exit.json.
        values: first contents of the state (`id`, `monitor`, `cgroup`…).
    """

    __slots__ = ("_data_dir", "_run_dir", "values")

    def __init__(self, run_dir: str, data_dir: str, **values: "Any") -> None:
        self._run_dir = run_dir
        self._data_dir = data_dir
        self.values: dict[str, Any] = {"v": VERSION, **values}

    def update(self, **values: "Any") -> None:
        """Change some values and write state.json; raises KernelError."""
        self.values.update(values)
        write_atomic(f"{self._run_dir}/state.json", dumps(self.values).encode(), durable=False)

    def ended(self, values: "dict[str, Any]") -> None:
        """Write exit.json and wait until the disk has it; raises KernelError."""
        write_atomic(f"{self._data_dir}/exit.json", dumps({"v": VERSION, **values}).encode())

    def exec_started(self, exec_id: str, pid: int, start_time: int) -> None:
        """Add an exec and write state.json."""
        entry = {"exec_id": exec_id, "pid": pid, "start_time": start_time, "code": None}
        self.update(execs=[*self.values.get("execs", []), entry])

    def exec_ended(self, exec_id: str, code: int, finished_at: int) -> None:
        """Note an exec's exit code and time (ns), and write state.json; the oldest of many ended ones are forgotten."""
        ended = {"code": code, "finished_at": finished_at}
        execs = [{**e, **ended} if e["exec_id"] == exec_id else e for e in self.values.get("execs", [])]
        surplus = sum(e["code"] is not None for e in execs) - KEPT_EXECS
        kept = []
        for entry in execs:
            if surplus > 0 and entry["code"] is not None:
                surplus -= 1
            else:
                kept.append(entry)
        self.update(execs=kept)


def note_error(data_dir: str, error: BaseException) -> None:
    """Append an error nobody expected to `<data_dir>/monitor.err`, up to a size: there is no other place to say it."""
    try:
        import traceback  # not before there is need: it brings much along

        lines = traceback.format_exception(error)
    except Exception as another:  # noqa: BLE001 - the machine may be out of memory or descriptors
        lines = [repr(error), repr(another)]
    text = f"{time.time_ns()} {''.join(lines)}\n".encode()
    try:
        fd = os.open(f"{data_dir}/monitor.err", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(fd).st_size < _MAX_ERRORS:
                os.write(fd, text)
        finally:
            os.close(fd)
    except OSError:
        return
