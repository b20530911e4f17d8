"""What is compiled is whole or not there: threads share it, a cache is never trusted, and a compiler that fails goes unnoticed."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import pytest
import torch
from dense import compare, made

from sightline.attention import CAUSAL, FULL, Pattern, compiling
from sightline.attention.compiling import library
from sightline.observe import native
from sightline.observe.statistics import statistics

there = pytest.mark.skipif(library(native.STATISTICS) is None, reason="there is no compiler here")


@pytest.fixture
def threads():
    """Three, however many there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """An empty cache, and nothing loaded; gives its folder. What is compiled is compiled in a hurry, for any processor of its kind."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(
        compiling, "FLAGS", ["-O0", *(f for f in compiling.FLAGS if f not in ("-O3", "-march=native"))]
    )
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
    """Statistics are right, whoever made them."""
    torch.manual_seed(0)
    call = made((19, 0, 5), pattern=CAUSAL)
    compare(call, statistics(call, 3), 3)


def same(a, b):
    return all(torch.equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))


@there
@pytest.mark.parametrize("pattern", [FULL, CAUSAL, Pattern(900, 7)], ids=str)
def test_threads_share_what_is_large(pattern, threads, poison):
    torch.manual_seed(0)
    call = made((1301, 2, 1201, 90), pattern=pattern, heads=(2, 1))
    special = torch.rand(len(call.k)) < 0.1
    found = statistics(call, 4, special)
    compare(call, found, 4, special)
    assert same(found, statistics(call, 4, special))


@there
def test_threads_share_what_is_small(threads, monkeypatch, poison):
    monkeypatch.setattr(native, "FEW", 0)
    torch.manual_seed(0)
    for lengths in ((30, 1, 0, 7, 90, 5, 5, 41), (1,), (), (0, 3)):
        call = made(lengths)
        compare(call, statistics(call, 4), 4)


@there
def test_many_ask_at_once(threads):
    torch.manual_seed(0)
    calls = [made((1100, 31), pattern=pattern, heads=(1, 1)) for pattern in (FULL, CAUSAL, Pattern(5, 5))] * 3
    alone = [statistics(call, 3) for call in calls]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda call: statistics(call, 3), calls))
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))


@there
def test_exponentials_over_their_whole_range():
    """With queries of 1 and lse of 0, a key's own number is the logarithm of its weight."""
    logs = torch.cat([torch.linspace(-110, 20, 4001), torch.tensor([0.0, -0.0, -87.3, -87.4, -1e20, 100.0])])
    one = made((1,), (len(logs),), heads=(1, 1), width=1)
    call = replace(one, q=torch.ones(1, 1, 1), k=logs.view(-1, 1, 1), lse=torch.zeros(1, 1), scale=1.0)
    found = statistics(call, 0).received.flatten().double()
    right = logs.double().exp().masked_fill(logs < -87.336, 0)
    assert found[-1] == torch.inf
    torch.testing.assert_close(found[:-1], right[:-1], atol=0, rtol=2.5e-7)


@there
@pytest.mark.parametrize("cap", [0.1, 3.0, 50.0])
def test_a_softcap_keeps_small_scores_exact(cap):
    logs = torch.cat([torch.linspace(-200, 200, 3001), torch.linspace(-0.1, 0.1, 999)])
    one = made((1,), (len(logs),), heads=(1, 1), width=1)
    call = replace(one, q=torch.ones(1, 1, 1), k=logs.view(-1, 1, 1), lse=torch.zeros(1, 1), scale=1.0)
    found = statistics(replace(call, softcap=cap), 0).received.flatten().double()
    right = (cap * (logs.double() / cap).tanh()).exp()
    torch.testing.assert_close(found, right, atol=0, rtol=3e-7 * max(1, cap))


def test_only_float32_on_the_cpu_is_compiled():
    call = made((3,))
    assert native.fits(call) == (library(native.STATISTICS) is not None)
    assert not native.fits(made((3,), dtype=torch.float64)) and not native.fits(
        made((3,), dtype=torch.bfloat16)
    )
    assert not native.fits(replace(call, bias=(torch.zeros(1, 3, 3, dtype=torch.float64),)))
    assert not native.fits(replace(call, q=call.q.to("meta")))


def test_it_can_be_switched_off(monkeypatch):
    monkeypatch.setenv("SIGHTLINE_NATIVE", "0")
    assert library(native.STATISTICS) is None
    answers()


@there
@pytest.mark.parametrize("pattern", [FULL, CAUSAL, Pattern(300, 2)], ids=str)
def test_narrow_vectors_give_the_same(fresh, pattern, poison):
    torch.manual_seed(0)
    call = made((901, 0, 13), pattern=pattern, heads=(2, 1), softcap=20.0)
    compare(call, statistics(call, 7), 7)


@there
def test_it_is_compiled_once(fresh, monkeypatch, tmp_path):
    assert library(native.STATISTICS) is not None
    (file,) = fresh.iterdir()  # nothing but the library is left
    compiling._library.cache_clear()
    monkeypatch.setattr(compiling, "_compiled", lambda *_: pytest.fail("compiled again"))
    assert library(native.STATISTICS) is not None
    assert fresh.stat().st_mode & 0o777 == 0o700 and file.suffix == ".so"


@there
@pytest.mark.parametrize("harm", ["cut short", "changed", "empty"])
def test_a_damaged_library_is_made_anew(fresh, harm):
    """Loading one that is cut short would end the process."""
    library(native.STATISTICS)
    (file,) = fresh.iterdir()
    whole = file.read_bytes()
    middle = len(whole) // 2
    changed = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    file.unlink()  # this process has it loaded
    file.write_bytes({"cut short": whole[:middle], "changed": changed, "empty": b""}[harm])
    compiling._library.cache_clear()
    assert library(native.STATISTICS) is not None
    answers()
    (again,) = fresh.iterdir()
    assert again.stem.endswith(compiling._digest(again))


@there
def test_a_cache_that_cannot_be_written(fresh, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert compiling._folder() is None and library(native.STATISTICS) is not None
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
    assert library(native.STATISTICS) is None
    answers()
    assert list(fresh.iterdir()) == [] and capfd.readouterr() == ("", "")


def test_a_compiler_that_hangs_is_ended_with_all_it_started(fresh, monkeypatch, tmp_path):
    compiler(monkeypatch, tmp_path, f"sleep 100 & echo $! > {tmp_path}/child; wait")
    monkeypatch.setattr(compiling, "PATIENCE", 0.5)
    assert library(native.STATISTICS) is None
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
    assert library(native.STATISTICS) is None
    answers()


@there
def test_two_processes_compile_at_once(fresh):
    script = (
        "from sightline.attention import compiling; from sightline.observe import native; compiling.FLAGS[1] = '-O0'; "
        "print(compiling.library(native.STATISTICS) is not None)"
    )
    run = [sys.executable, "-c", script]
    both = [
        subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    assert [process.communicate() for process in both] == [("True\n", "")] * 2
    files = list(fresh.iterdir())
    assert files and all(file.stem.endswith(compiling._digest(file)) for file in files)
