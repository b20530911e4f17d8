"""Statistics in C: threads share them, and they are right for every score, and on narrower processors."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import pytest
import torch

from sightline.attention import CAUSAL, FULL, Pattern
from sightline.kernels import statistics as in_c
from sightline.kernels import toolchain as compiling
from sightline.kernels.toolchain import library
from sightline.observe.statistics import statistics
from tests.observe.dense import compare, random_call

there = pytest.mark.skipif(library(in_c.STATISTICS) is None, reason="there is no compiler here")


@pytest.fixture
def threads():
    """Three, however many there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def same(a, b):
    return all(torch.equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))


@there
@pytest.mark.parametrize("pattern", [FULL, CAUSAL, Pattern(900, 7)], ids=str)
def test_threads_share_what_is_large(pattern, threads, poison):
    torch.manual_seed(0)
    call = random_call((1301, 2, 1201, 90), pattern=pattern, heads=(2, 1))
    special = torch.rand(len(call.k)) < 0.1
    result = statistics(call, 4, special)
    compare(call, result, 4, special)
    assert same(result, statistics(call, 4, special))


@there
def test_threads_share_what_is_small(threads, monkeypatch, poison):
    monkeypatch.setattr(in_c, "FEW", 0)
    torch.manual_seed(0)
    for lengths in ((30, 1, 0, 7, 90, 5, 5, 41), (1,), (), (0, 3)):
        call = random_call(lengths)
        compare(call, statistics(call, 4), 4)


@there
def test_many_ask_at_once(threads):
    torch.manual_seed(0)
    calls = [random_call((1100, 31), pattern=pattern, heads=(1, 1)) for pattern in (FULL, CAUSAL, Pattern(5, 5))] * 3
    alone = [statistics(call, 3) for call in calls]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda call: statistics(call, 3), calls))
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))


@there
def test_exponentials_over_their_whole_range():
    """With queries of 1 and lse of 0, a key's own number is the logarithm of its weight."""
    logs = torch.cat([torch.linspace(-110, 20, 4001), torch.tensor([0.0, -0.0, -87.3, -87.4, -1e20, 100.0])])
    one = random_call((1,), (len(logs),), heads=(1, 1), width=1)
    call = replace(one, q=torch.ones(1, 1, 1), k=logs.view(-1, 1, 1), lse=torch.zeros(1, 1), scale=1.0)
    result = statistics(call, 0).received.flatten().double()
    right = logs.double().exp().masked_fill(logs < -87.336, 0)
    assert result[-1] == torch.inf
    torch.testing.assert_close(result[:-1], right[:-1], atol=0, rtol=2.5e-7)


@there
@pytest.mark.parametrize("cap", [0.1, 3.0, 50.0])
def test_a_softcap_keeps_small_scores_exact(cap):
    logs = torch.cat([torch.linspace(-200, 200, 3001), torch.linspace(-0.1, 0.1, 999)])
    one = random_call((1,), (len(logs),), heads=(1, 1), width=1)
    call = replace(one, q=torch.ones(1, 1, 1), k=logs.view(-1, 1, 1), lse=torch.zeros(1, 1), scale=1.0)
    result = statistics(replace(call, softcap=cap), 0).received.flatten().double()
    right = (cap * (logs.double() / cap).tanh()).exp()
    torch.testing.assert_close(result, right, atol=0, rtol=3e-7 * max(1, cap))


def test_only_float32_on_the_cpu_is_compiled():
    call = random_call((3,))
    assert in_c.fits(call) == (library(in_c.STATISTICS) is not None)
    assert not in_c.fits(random_call((3,), dtype=torch.float64)) and not in_c.fits(
        random_call((3,), dtype=torch.bfloat16)
    )
    assert not in_c.fits(replace(call, bias=(torch.zeros(1, 3, 3, dtype=torch.float64),)))
    assert not in_c.fits(replace(call, q=call.q.to("meta")))


def test_they_can_be_switched_off(monkeypatch):
    monkeypatch.setenv("SIGHTLINE_NATIVE", "0")
    call = random_call((19, 0, 5), pattern=CAUSAL)
    assert not in_c.fits(call)
    compare(call, statistics(call, 3), 3)


@there
@pytest.mark.parametrize("pattern", [FULL, CAUSAL, Pattern(300, 2)], ids=str)
def test_narrow_vectors_give_the_same(tmp_path, monkeypatch, pattern, poison):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compiling, "FLAGS", [flag for flag in compiling.FLAGS if flag != "-march=native"])
    torch.manual_seed(0)
    call = random_call((901, 0, 13), pattern=pattern, heads=(2, 1), softcap=20.0)
    compiling._library.cache_clear()
    try:
        compare(call, statistics(call, 7), 7)
    finally:
        compiling._library.cache_clear()
