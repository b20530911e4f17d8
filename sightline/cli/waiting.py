"""How long OpenMP's threads spin while they wait: long on an idle machine, briefly beside other work.

A thread that spins on a core another process wants keeps that process, and the thread it waits for, from running; one
that sleeps takes long to wake. No count serves both (benchmarks/busy.py; docs/log.md), so it follows from what runs
when a command begins.
"""

from __future__ import annotations

import os
import sys
import time

SAMPLES, APART = 4, 0.005  # of the number of tasks that run, and the seconds between them
IDLE, BUSY = "10000", "1000"  # turns; OpenMP's own 300,000 leave a thirtieth of the speed on some processors


def limit_waiting() -> None:
    """Sets GOMP_SPINCOUNT for this process and its children, unless the user has, or its reader, torch, is loaded."""
    if not os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} and "torch" not in sys.modules:
        os.environ["GOMP_SPINCOUNT"] = BUSY if is_busy() else IDLE


def is_busy() -> bool:
    """Whether other tasks have kept some of our cores during the last milliseconds; False where nobody can say."""
    try:
        ours, all_cores = len(os.sched_getaffinity(0)), os.cpu_count() or 1
        others = [_running() - 1 for _ in range(SAMPLES) if not time.sleep(APART)]
    except (AttributeError, OSError, ValueError, IndexError):  # no Linux, or no /proc
        return False
    return min(others) > all_cores - ours


def _running() -> int:
    """How many tasks run or are ready to run, ours among them."""
    with open("/proc/loadavg", "rb") as file:
        return int(file.read().split()[3].split(b"/")[0])
