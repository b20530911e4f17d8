"""What is compiled is whole or not there: a cache is never trusted, and a compiler that fails goes unnoticed."""

import os
import subprocess
import sys
import time

import pytest
import torch

from sightline.attention import CAUSAL, attention
from sightline.attention.native import SOURCE
from sightline.kernels import toolchain as compiling
from sightline.kernels.toolchain import library
from tests.attention.cases import offsets_of

there = pytest.mark.skipif(library(SOURCE) is None, reason="there is no compiler here")


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """An empty cache without loaded kernels; gives its folder. Compiles without optimisation, for any processor."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(compiling, "FLAGS", ["-O0", *(f for f in compiling.FLAGS if f not in ("-O3", "-march=native"))])
    compiling._library.cache_clear()
    yield tmp_path / "cache" / "sightline" / "native"
    compiling._library.cache_clear()


def compiler(monkeypatch, tmp_path, script):
    """Another `cc`, before all others."""
    (tmp_path / "bin").mkdir()
    file = tmp_path / "bin" / "cc"
    file.write_text("#!/bin/sh\n" + script)
    file.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)


def answers():
    """Attention is right, with or without native kernels."""
    offsets = offsets_of((19, 0, 5))
    q, k, v = torch.randn(3, 24, 2, 8, generator=torch.Generator().manual_seed(0))
    result, right = (attention(q, k, v, offsets, CAUSAL, backend=backend) for backend in (None, "reference"))
    torch.testing.assert_close(result.out, right.out)


def test_it_can_be_switched_off(monkeypatch):
    monkeypatch.setenv("SIGHTLINE_NATIVE", "0")
    assert library(SOURCE) is None
    answers()


@there
def test_it_is_compiled_once(fresh, monkeypatch, tmp_path):
    assert library(SOURCE) is not None
    (file,) = fresh.iterdir()  # nothing but the library is left
    compiling._library.cache_clear()
    monkeypatch.setattr(compiling, "_compiled", lambda *_: pytest.fail("compiled again"))
    assert library(SOURCE) is not None
    assert fresh.stat().st_mode & 0o777 == 0o700 and file.suffix == ".so"


@there
@pytest.mark.parametrize("harm", ["cut short", "changed", "empty"])
def test_a_damaged_library_is_made_anew(fresh, harm):
    """Loading one that is cut short would end the process."""
    library(SOURCE)
    (file,) = fresh.iterdir()
    whole = file.read_bytes()
    middle = len(whole) // 2
    changed = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    file.unlink()  # this process has it loaded
    file.write_bytes({"cut short": whole[:middle], "changed": changed, "empty": b""}[harm])
    compiling._library.cache_clear()
    assert library(SOURCE) is not None
    answers()
    (again,) = fresh.iterdir()
    assert again.stem.endswith(compiling._digest(again))


@there
def test_a_cache_that_cannot_be_written(fresh, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert compiling._folder() is None and library(SOURCE) is not None
    answers()


def test_a_cache_that_others_can_write_is_not_trusted(fresh):
    fresh.mkdir(parents=True)
    fresh.chmod(0o777)
    assert compiling._folder() is None
    fresh.chmod(0o700)
    assert compiling._folder() == fresh


def test_no_home(fresh, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(compiling.Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert compiling._folder() is None


SCRIPTS = {
    "fails": "exit 1",
    "makes nothing": "exit 0",
    "makes rubbish": 'while [ "$1" != -o ]; do shift; done; echo rubbish > "$2"',
    "makes something else": 'while [ "$1" != -o ]; do shift; done; echo "int a;" | /usr/bin/cc -shared -x c - -o "$2"',
    "is killed": "kill -9 $$",
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_compiler_that_fails_goes_unnoticed(script, fresh, monkeypatch, tmp_path, capfd):
    compiler(monkeypatch, tmp_path, script)
    assert library(SOURCE) is None
    answers()
    assert list(fresh.iterdir()) == [] and capfd.readouterr() == ("", "")


def test_a_compiler_that_hangs_is_ended_with_all_it_started(fresh, monkeypatch, tmp_path):
    compiler(monkeypatch, tmp_path, f"sleep 100 & echo $! > {tmp_path}/child; wait")
    monkeypatch.setattr(compiling, "PATIENCE", 0.5)
    assert library(SOURCE) is None
    answers()
    child = (tmp_path / "child").read_text().strip()
    for _ in range(100):
        state = subprocess.run(["ps", "-o", "stat=", "-p", child], capture_output=True, text=True).stdout
        if state[:1] in ("", "Z"):
            break
        time.sleep(0.05)
    assert state[:1] in ("", "Z")


def test_no_compiler(fresh, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert library(SOURCE) is None
    answers()


@there
def test_two_processes_compile_at_once(fresh):
    script = (
        "from sightline.kernels import toolchain as compiling; from sightline.attention.native import SOURCE; "
        "compiling.FLAGS[1] = '-O0'; "
        "print(compiling.library(SOURCE) is not None)"
    )
    run = [sys.executable, "-c", script]
    both = [subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate() for process in both] == [("True\n", "")] * 2
    files = list(fresh.iterdir())
    assert files and all(file.stem.endswith(compiling._digest(file)) for file in files)


def test_a_child_forked_while_another_thread_asks_does_not_wait_for_it():
    script = """
import os
from sightline.attention import native
from sightline.kernels import toolchain as compiling
with compiling._compiling.lock:  # as by a thread that is not there in the child
    child = os.fork()
    if child == 0:
        compiling.library(native.SOURCE)
        os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert run.stdout.strip() == "0", run.stderr
