"""The Triton kernels: on a GPU; without one in Triton's interpreter, and compiled for a GPU that is not there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed: the kernels for a GPU are not examined")
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

from sightline.attention import CAUSAL
from sightline.kernels import triton_statistics
from tests.observe.dense import random_call

if torch.cuda.is_available():
    from tests.observe.kernels import *  # noqa: F403
else:
    old = tuple(map(int, triton.__version__.split(".")[:2])) < (3, 7)

    @pytest.mark.skipif(old, reason="the interpreter of Triton before 3.7 does not know numpy 2.4")
    def test_in_the_interpreter():
        """In a process of its own, since Triton decides as it is imported whether it interprets."""
        run = [sys.executable, "-m", "pytest", str(Path(__file__).with_name("kernels.py"))]
        done = subprocess.run(run, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout

    class Absent:
        """Stands in for the driver of an H100."""

        get_current_target = staticmethod(lambda: GPUTarget("cuda", 90, 32))
        get_current_device = staticmethod(lambda: 0)
        get_current_stream = staticmethod(lambda device: 0)

    def test_compiled_for_an_h100(monkeypatch, tmp_path):
        """Compiles to machine code with tensor cores for the products and asynchronous copies, and spills nothing."""
        compiled, compile = {}, JITFunction.run

        def run(self, *args, warmup, **kwargs):
            compiled[self.__name__] = compile(self, *args, warmup=True, **kwargs).asm

        monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
        monkeypatch.setattr(JITFunction, "run", run)
        monkeypatch.setattr(driver, "_active", Absent())
        call = random_call((200,), None, CAUSAL, (2, 1), 64, torch.bfloat16)
        triton_statistics.statistics(call, 8, torch.zeros(200, dtype=torch.bool), 24)
        assert set(compiled) == {"_by_query", "_links", "_by_key"}
        for name in ("_by_query", "_by_key"):
            assert "wgmma.mma_async" in compiled[name]["ptx"] and "cp.async" in compiled[name]["ptx"]
        assert all(len(asm["cubin"]) > 0 for asm in compiled.values())


def test_what_the_kernels_know():
    call = random_call((5,))
    assert (
        triton_statistics.fits(call)
        and triton_statistics.fits(random_call((), None))
        and triton_statistics.fits(random_call((3,), softcap=1.0))
    )
    assert not triton_statistics.fits(random_call((3,), dtype=torch.float64)) and not triton_statistics.fits(
        random_call((3,), width=257)
    )
    assert not triton_statistics.fits(random_call((3,), bias=torch.zeros(1, 4, 3, 3)))


def test_blocks_are_small_where_most_of_a_large_one_would_be_empty():
    def blocks(lengths, by=1, key_lengths=None):
        offsets, key_offsets = (torch.tensor([0, *o]).cumsum(0).numpy() for o in (lengths, key_lengths or lengths))
        size, work = triton_statistics._blocks(offsets.tobytes(), key_offsets.tobytes(), 64, by, torch.device("cpu"))
        return size, work.tolist()

    assert blocks((100, 0, 30)) == (64, [[0, 0, 100, 100, 0], [0, 0, 100, 100, 64], [100, 100, 30, 30, 0]])
    assert blocks((100, 30), 0)[1] == [[100, 100, 30, 30, 0], [0, 0, 100, 100, 64], [0, 0, 100, 100, 0]]
    assert blocks((5, 7, 20)) == (16, [[0, 0, 5, 5, 0], [5, 5, 7, 7, 0], [12, 12, 20, 20, 0], [12, 12, 20, 20, 16]])
    assert blocks((1, 2), 1, (3, 4)) == (16, [[0, 0, 1, 3, 0], [1, 3, 2, 4, 0]])
    assert blocks(()) == (64, []) and blocks((0, 0)) == (64, [])
