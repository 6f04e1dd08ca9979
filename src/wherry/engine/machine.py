"""What this host can do, looked up once at start."""

import os
import shutil

from wherry.containers.context import Machine
from wherry.linux.capability import bounding_set
from wherry.runtime.cgroups import version


def look(init_path: str = "") -> Machine:
    """Look the machine over: capabilities, cgroups, processors, memory, tini.

    Args:
        init_path: the program of `--init`; empty: tini, where it is installed.
    """
    return Machine(
        capabilities=frozenset(bounding_set()),
        cgroup_version=version(),
        cpus=os.cpu_count() or 1,
        memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        tini=init_path
        or next((path for name in ("tini-static", "docker-init", "tini") if (path := shutil.which(name))), None),
    )
