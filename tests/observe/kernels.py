"""Tests of the Triton kernels, run by `test_triton.py`: on a GPU, or else in Triton's slow interpreter on few rows."""

from dataclasses import replace

import pytest
import torch

from sightline.attention import CAUSAL, FULL, Pattern
from sightline.kernels import triton_statistics
from sightline.observe.distances import BINS
from sightline.observe.statistics import Statistics, statistics
from tests.observe.dense import call_of, compare, offsets_of, random_call

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CASES = {  # lengths, key lengths, pattern, width, dtype
    "odd": ((7, 0, 1, 18), None, FULL, 8, torch.float32, {}),
    "several tiles": ((37, 2), None, CAUSAL, 8, torch.float32, {}),
    "few queries": ((5,), (70,), Pattern(40, None), 8, torch.float32, {}),
    "window and other keys": ((3, 1, 0, 20, 5), (7, 40, 5, 20, 2), Pattern(3, 2), 8, torch.float32, {}),
    "softcap and sink": ((19,), None, Pattern(None, 3), 17, torch.float16, {"softcap": 2.0, "sink": torch.randn(2)}),
    "wide": ((9,), None, CAUSAL, 72, torch.float32, {}),
    "empty": ((0, 0), None, FULL, 8, torch.float32, {}),
    "none": ((), None, FULL, 8, torch.float32, {}),
}  # fmt: skip


def on_device(call):
    there = {name: getattr(call, name).to(DEVICE) for name in ("q", "k", "lse", "groups")}
    return replace(call, **there)


def computed(call, links, special=None):
    assert triton_statistics.fits(call)
    special = None if special is None else special.to(DEVICE)
    fields = triton_statistics.statistics(on_device(call), links, special, BINS)
    return Statistics(**{name: t.cpu() for name, t in fields.items()})


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_case(case, poison):
    torch.manual_seed(0)
    lengths, key_lengths, pattern, width, dtype, extra = case
    call = random_call(lengths, key_lengths, pattern, (2, 1), width, dtype, **extra)
    special = torch.rand(len(call.k)) < 0.2
    compare(call, computed(call, 3, special), 3, special)


def test_rows_that_do_not_lie_side_by_side_no_special_and_no_links(poison):
    torch.manual_seed(0)
    q, k = torch.randn(2, 2, 11, 16)[..., ::2].transpose(1, 2)
    call = call_of(q, k[:, :1], offsets_of([11]), offsets_of([11]), CAUSAL)
    compare(call, computed(call, 0), 0)


def test_equal_weights_give_different_keys_and_far_ones_are_still_in_order():
    offsets = offsets_of([35])
    equal = computed(call_of(torch.zeros(35, 1, 4), torch.zeros(35, 1, 4), offsets, offsets, CAUSAL), 4)
    for row in (0, 2, 34):
        keys = equal.keys[row, 0].tolist()
        there = [key for key in keys if key >= 0]
        assert len(set(there)) == min(4, row + 1) and max(there) <= row
        assert keys[len(there) :] == [-1] * (4 - len(there))
    q, k = torch.full((1, 1, 1), 1000.0), torch.tensor([3.0, 9.0, 1.0, 2.0]).view(4, 1, 1)
    far = computed(call_of(q, k, offsets_of([1]), offsets_of([4])), 4)
    assert far.keys.flatten().tolist() == [1, 0, 3, 2]  # though three weights are 0 in float32
    assert far.weights.flatten().tolist() == [1, 0, 0, 0] and far.entropy.item() == 0


def test_queries_that_see_nothing(poison):
    torch.manual_seed(0)
    call = random_call((20,), (3,), CAUSAL, (2, 2))
    compare(call, computed(call, 2), 2)
    assert (call.lse[:17] == -torch.inf).all()


@pytest.mark.skipif(DEVICE == "cpu", reason="the interpreter knows no bfloat16, and is too slow for long input")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("width", [8, 64, 100, 128, 256])
@pytest.mark.parametrize("pattern", [FULL, CAUSAL, Pattern(300, 7), Pattern(2, None)], ids=str)
def test_long_input(pattern, width, dtype, poison):
    torch.manual_seed(0)
    call = random_call((1201, 1, 0, 90, 513), None, pattern, (4, 2), width, dtype)
    special = torch.rand(len(call.k)) < 0.2
    compare(call, computed(call, 8, special), 8, special)
    again, once = computed(call, 8), computed(call, 8)
    assert all(torch.equal(getattr(once, name), getattr(again, name)) for name in vars(once))


@pytest.mark.skipif(DEVICE == "cpu", reason="only a GPU's calls come here")
def test_a_call_on_a_gpu_comes_here(monkeypatch):
    calls, compute = [], triton_statistics.statistics
    monkeypatch.setattr(
        triton_statistics, "statistics", lambda *arguments: calls.append(arguments) or compute(*arguments)
    )
    statistics(on_device(random_call((9, 3))), 2)
    assert len(calls) == 1
