"""How a local Spark session starts its JVM, in which driver and executor are one process."""

import os
import re
from pathlib import Path
from typing import Final

_FEW_CORES: Final = 4
_GIB: Final = 2**30
_LIMITS: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where Linux tells a container's memory, in its two versions of control groups."""


def jvm_settings(master: str, cores: int, memory_bytes: int) -> dict[str, str]:
    """Returns the settings of the JVM for a local master; those of clusters are the cluster's.

    Compiling Java code twice costs more than it saves in short nights. Up to 200,000 new images it pays: a night over
    500,000 unchanged images took 51 CPU seconds instead of 91, and a first one of 1,000 images 36 of 75. On few cores
    collecting garbage in parallel saves no time either.

    Spark's heap of 1 GiB is too small for a wave of 50,000 changed images, whose rows a merge sends to every task.

    Args:
        master: Spark's master.
        cores: Cores of this machine.
        memory_bytes: Memory of this machine, from `machine_memory`.

    >>> jvm_settings("local[2]", 2, 24 * 2**30)["spark.driver.extraJavaOptions"]
    '-XX:TieredStopAtLevel=1 -XX:+UseSerialGC'
    >>> [jvm_settings("local[*]", 8, gib * 2**30)["spark.driver.memory"] for gib in (1, 8, 64)]
    ['1024m', '2048m', '4096m']
    >>> jvm_settings("spark://host:7077", 64, 2**38)
    {}
    """
    if not re.match(r"local(\[|$)", master):
        return {}
    collector = " -XX:+UseSerialGC" if cores <= _FEW_CORES else ""
    heap = min(max(memory_bytes // 4, _GIB), 4 * _GIB)
    return {
        "spark.driver.extraJavaOptions": f"-XX:TieredStopAtLevel=1{collector}",
        "spark.driver.memory": f"{heap // 2**20}m",
    }


def machine_memory() -> int:
    """Returns the memory of this machine, or of the container if that is less, in bytes; 0 where nothing tells it."""
    try:
        found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        found = []
    for file in _LIMITS:
        try:
            text = file.read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdecimal():  # "max" where there is no limit
            found.append(int(text))
    return min(found, default=0)
