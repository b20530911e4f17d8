"""What the C backend leaves to others, and that neither the threads nor what lies in memory change what it gives."""

import subprocess
import sys

import pytest
import torch

from sightline.attention import CAUSAL, FULL, Pattern, attention, native
from sightline.attention.operator import BACKENDS, _choose
from sightline.attention.request import Request
from sightline.kernels import toolchain as compiling
from sightline.kernels.toolchain import library
from sightline.sequences import Layout
from tests.attention.cases import ODD, Case, examine, offsets_of, through_the_door

pytestmark = pytest.mark.skipif(library(native.SOURCE) is None, reason="there is no compiler here")


def drawn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()


def answers(lengths=(63, 7, 0, 64, 17, 65) * 4, heads=4, pattern=CAUSAL):
    offsets = offsets_of(lengths)
    q, k, v = drawn(3, int(offsets[-1]), heads, 32).unbind(0)
    out, lse = attention(q, k, v, offsets, pattern, backend="native")
    return out, lse, *torch.autograd.grad(out.square().sum() + lse.sum(), (q, k, v))


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("pattern", [FULL, CAUSAL, Pattern(9, 2)])
def test_threads_change_no_bit(threads, pattern):
    threads(1)
    alone = answers(pattern=pattern)
    for many in (2, 3, 7):
        threads(many)
        assert all(torch.equal(a, b) for a, b in zip(alone, answers(pattern=pattern), strict=True))


def test_a_sequence_alone_is_the_same_bit_for_bit():
    offsets = offsets_of((31, 128, 7, 1, 64))
    q, k, v = (t.detach() for t in drawn(3, int(offsets[-1]), 4, 20).unbind(0))
    packed = attention(q, k, v, offsets, CAUSAL, backend="native")
    for start, stop in offsets.unfold(0, 2, 1).tolist():
        rows = [t[start:stop] for t in (q, k, v)]
        alone = attention(*rows, torch.tensor([0, stop - start]), CAUSAL, backend="native")
        assert torch.equal(alone.out, packed.out[start:stop]) and torch.equal(alone.lse, packed.lse[start:stop])


def test_nothing_is_written_beside_the_rows():
    offsets = offsets_of((5, 3))
    q, k, v = (t.detach() for t in drawn(3, 8, 2, 5).unbind(0))
    room = torch.full((3, 8, 2, 7), 7.0)
    inside = [t[..., 1:6].copy_(source) for t, source in zip(room, (q, k, v), strict=True)]
    expected = attention(q, k, v, offsets, backend="native")
    assert torch.equal(attention(*inside, offsets, backend="native").out, expected.out)
    assert (room[..., 0] == 7).all() and (room[..., 6] == 7).all()


@pytest.mark.parametrize("heads", [(8, 8), (9, 9)])
def test_the_longest_it_takes(heads):
    for pattern in (FULL, CAUSAL, Pattern(40, 0)):
        case = Case("long", (1024, 3, 900), heads=heads, pattern=pattern)
        examine(through_the_door("native"), case, torch.float32)


@pytest.mark.parametrize("rows", [True, False])
def test_scores_out_of_range(rows):
    """As the definition: NaN where there is NaN or infinity, and nowhere else."""
    q, k, v = (t.detach().clone() for t in drawn(3, 12, 2, 8).unbind(0))
    (q if rows else k)[3] = torch.inf
    offsets = offsets_of((6, 6))
    result, expected = (attention(q, k, v, offsets, backend=b) for b in ("native", "reference"))
    assert torch.equal(result.out.isnan(), expected.out.isnan())
    torch.testing.assert_close(result.out, expected.out, equal_nan=True)


def test_numbers_that_are_negative_only_by_a_mark():
    """PyTorch negates the imaginary part of a conjugate when it is read, and here the memory is read."""
    marked = torch.randn(6, 2, 16, dtype=torch.complex64).conj().imag
    assert marked.is_neg()
    offsets = torch.tensor([0, 4, 6])
    result, right = (attention(q, q, q, offsets, backend="native") for q in (marked, marked.resolve_neg()))
    assert torch.equal(result.out, right.out)
    q = torch.randn(6, 2, 16, requires_grad=True)
    out = attention(q, q, q, offsets, backend="native").out
    result, right = (torch.autograd.grad(out, q, g, retain_graph=True)[0] for g in (marked, marked.resolve_neg()))
    assert torch.equal(result, right)


@pytest.mark.parametrize("level", [100.0, 1000.0])
def test_gradients_under_large_scores(level):
    """Large scores round lse by far more than the weights; what they then do not sum to must not enter the gradient."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(60, 1, 16, dtype=torch.float64) for _ in range(3))
    q[..., 0] = k[..., 0] = (4 * level) ** 0.5
    operands = [t.requires_grad_() for t in (q, k, v + 10)]
    offsets = torch.tensor([0, 60])
    right = torch.autograd.grad(attention(*operands, offsets, backend="reference").out.square().sum(), operands)
    narrow = [t.detach().float().requires_grad_() for t in operands]
    result = torch.autograd.grad(attention(*narrow, offsets, backend="native").out.square().sum(), narrow)
    beside = torch.autograd.grad(attention(*narrow, offsets, backend="cpu").out.square().sum(), narrow)
    for ours, theirs, exact in zip(result, beside, right, strict=True):
        error, usual = ((t.double() - exact).norm() for t in (ours, theirs))
        assert error <= 4 * usual + 1e-6 * exact.norm()


def test_what_it_leaves_to_others(monkeypatch, threads):
    def chosen(length=9, heads=4, dtype=torch.float32, make=torch.zeros):
        q = make(length, heads, 8, dtype=dtype)
        offsets = torch.tensor([0, length])
        return _choose(None, Request(q, q, q, Layout.of(offsets), Layout.of(offsets), FULL, 1.0))

    threads(2)
    assert chosen() is chosen(length=1024, heads=8) is chosen(heads=1) is BACKENDS["native"]
    assert (
        chosen(length=1025, heads=8) is chosen(dtype=torch.bfloat16) is chosen(dtype=torch.float64) is BACKENDS["cpu"]
    )
    for many in (1, 2, 3):
        threads(many)
        assert chosen(length=512) is BACKENDS["cpu"]  # it would be few threads' work
    with monkeypatch.context() as patch:
        patch.setattr(native, "parallel", lambda: None)
        assert chosen() is BACKENDS["cpu"]
    monkeypatch.setenv("SIGHTLINE_NATIVE", "0")
    assert chosen() is BACKENDS["cpu"]


def test_tensors_that_are_not_there_go_another_way():
    from torch._subclasses.fake_tensor import FakeTensorMode

    layout = Layout.of(offsets_of((4, 5)))
    with FakeTensorMode(allow_non_fake_inputs=True):
        q = torch.zeros(9, 2, 8)
        assert native.refuses(Request(q, q, q, layout, layout, FULL, 1.0)).startswith("native: is not traced")


@pytest.mark.parametrize("narrow", ["-mno-avx512f", "-mno-avx"])
def test_narrower_processors(narrow, monkeypatch, tmp_path, poison):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compiling, "FLAGS", [*compiling.FLAGS, narrow])
    compiling._library.cache_clear()
    try:
        if library(native.SOURCE) is None:
            pytest.skip("the compiler knows no such processor")
        for widths in ((8, 8), (33, 20)):
            for pattern in (FULL, CAUSAL, Pattern(11, 3)):
                case = Case("narrow", ODD, heads=(4, 2), widths=widths, pattern=pattern)
                examine(through_the_door("native"), case, torch.float32)
    finally:
        compiling._library.cache_clear()


def test_after_a_fork_it_still_answers():
    """Workers that load data are forked, with one thread; OpenMP's others do not live there."""
    script = """
import os, torch
from sightline.attention import attention
q = torch.randn(600, 4, 16)
offsets = torch.arange(0, 601, 60)
torch.set_num_threads(2)
whole = attention(q, q, q, offsets, backend="native").out
child = os.fork()
if child == 0:
    torch.set_num_threads(1)
    os._exit(0 if torch.equal(attention(q, q, q, offsets, backend="native").out, whole) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert run.stdout.strip() == "0", run.stderr
