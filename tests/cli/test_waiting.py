"""The commands limit how long OpenMP waits, before torch is loaded, unless the user has set it."""

import subprocess
import sys

import pytest

from sightline.cli import waiting

WAITING = """
import builtins, os, sys
for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
    os.environ.pop(name, None)
os.environ.update(dict(pair.split("=") for pair in sys.argv[2:]))
plain, seen = builtins.__import__, []
def watched(name, *rest):
    if name.partition(".")[0] == "torch" and not seen:
        seen.append(os.environ.get("GOMP_SPINCOUNT"))
    return plain(name, *rest)
builtins.__import__ = watched
exec(sys.argv[1])
import subprocess
code = "import os; print(os.environ.get('GOMP_SPINCOUNT'))"
child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
print("torch" in sys.modules, *seen, child.stdout.strip())
"""


@pytest.mark.parametrize(
    "does, environment, expected",
    [
        ("import sightline.cli", [], "False set"),
        ("import sightline.cli, sightline.encoders", [], "True set set"),
        ("import sightline.cli.__main__", ["GOMP_SPINCOUNT=7"], "False 7"),
        ("import sightline.cli, sightline.encoders", ["OMP_WAIT_POLICY=ACTIVE"], "True None None"),
        ("import sightline", [], "False None"),
        ("import sightline; sightline.build", [], "True None None"),
        ("import torch, sightline.cli", [], "True None None"),
    ],
)
def test_the_commands_limit_the_waiting_of_openmp_before_torch_is_loaded(does, environment, expected):
    done = subprocess.run(
        [sys.executable, "-c", WAITING, does, *environment], capture_output=True, text=True, check=True
    )
    words = ["set" if word in (waiting.IDLE, waiting.BUSY) else word for word in done.stdout.split()]
    assert words == expected.split(), done.stderr


@pytest.mark.parametrize(
    "running, cores, ours, busy",
    [
        ([1, 1, 1, 1], 2, 2, False),
        ([2, 2, 3, 2], 2, 2, True),
        ([2, 2, 1, 2], 2, 2, False),  # it came and went
        ([40, 40, 40, 40], 64, 2, False),  # there are cores enough
        ([64, 64, 64, 64], 64, 2, True),
    ],
)
def test_other_work_is_seen_before_a_command_begins(running, cores, ours, busy, monkeypatch):
    seen = iter(running)
    monkeypatch.setattr(waiting, "_running", lambda: next(seen))
    monkeypatch.setattr(waiting.os, "cpu_count", lambda: cores)
    monkeypatch.setattr(waiting.os, "sched_getaffinity", lambda _: set(range(ours)), raising=False)
    assert waiting.is_busy() == busy


def test_where_nobody_can_say_the_machine_is_idle(monkeypatch):
    monkeypatch.setattr(waiting, "_running", lambda: int(""))
    assert not waiting.is_busy()
