"""The plan gives every sequence once, keeps its budget, and gives the same next batch to every caller at any time."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.batching import WINDOW, BatchPlan, share, sorted_batches

some_lengths = st.lists(st.integers(0, 40), min_size=1, max_size=300)
budget = st.integers(1, 60)


def holds(batches, lengths, tokens):
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        cost = [max(lengths[i], 1) for i in batch]
        assert sum(cost) <= tokens or len(batch) == 1
        assert cost == sorted(cost)  # equal lengths lie side by side


@settings(max_examples=60, deadline=None)
@given(some_lengths, budget, st.integers(0, 2**63), st.integers(0, 3))
def test_every_sequence_once_within_the_budget(lengths, tokens, seed, epoch):
    holds(BatchPlan(lengths, tokens, seed).epoch(epoch), lengths, tokens)


@settings(max_examples=60, deadline=None)
@given(some_lengths, budget)
def test_sorted_batches_hold_all(lengths, tokens):
    batches = sorted_batches(lengths, tokens)
    holds(batches, lengths, tokens)
    flat = [lengths[i] for batch in batches for i in batch]
    assert [max(x, 1) for x in flat] == sorted(max(x, 1) for x in flat)


@settings(max_examples=40, deadline=None)
@given(some_lengths, budget, st.integers(0, 60), st.integers(1, 3))
def test_resumes_at_any_step_at_any_world_size(lengths, tokens, step, world):
    running = BatchPlan(lengths, tokens)
    seen = [running.at(s) for s in range(step + 1)]
    epoch, batch = BatchPlan(lengths, tokens).at(step)  # a fresh plan, asked for this step first
    assert seen[-1] == (epoch, batch)
    assert sorted(i for rank in range(world) for i in share(batch, rank, world)) == sorted(batch)
    assert running.at(0) == BatchPlan(lengths, tokens).at(0)  # and asked backwards


def test_steps_run_through_the_epochs():
    plan = BatchPlan(list(range(50)), tokens=64)
    expected = [(e, batch) for e in range(3) for batch in plan.epoch(e)]
    assert [plan.at(step) for step in range(len(expected))] == expected
    assert plan.start(0) == 0 and plan.start(3) == len(expected)


def test_epochs_and_seeds_differ():
    orders = {str(BatchPlan([7] * 100, 21, seed).epoch(epoch)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4


def test_sequences_wander_between_batches_and_windows():
    plan = BatchPlan([1] * 1000, tokens=5)
    assert len(plan.epoch(0)) == 200 > 3 * WINDOW
    first = [i for batch in plan.epoch(0)[:WINDOW] for i in batch]
    assert max(first) > 900 and min(first) < 100


def test_batches_are_full_and_of_like_lengths():
    lengths = np.random.default_rng(0).geometric(1 / 30, 20_000)
    batches = BatchPlan(lengths, 4096).epoch(0)
    assert lengths.sum() / (len(batches) * 4096) > 0.95
    spread = [np.ptp(lengths[batch]) for batch in batches]
    assert np.median(spread) < 3


def test_a_hundred_thousand_lengths_take_little_time():
    plan = BatchPlan(torch.randint(0, 100, (100_000,)))
    began = time.perf_counter()
    plan.epoch(0)
    assert time.perf_counter() - began < 0.8  # about 0.03 s; the rest is for a busy machine
    began = time.perf_counter()
    for step in range(1000):
        plan.at(step)
    assert time.perf_counter() - began < 0.4


def test_the_order_is_for_good():
    # A checkpoint names a step only, so the order must not change with versions.
    plan = BatchPlan([5, 3, 3, 9, 5, 1, 0, 2], tokens=8, seed=3)
    assert plan.epoch(2) == [[0], [5, 6, 7, 1], [2, 4], [3]]


@pytest.mark.parametrize(
    "lengths, tokens, message",
    [
        ([], 8, "BatchPlan: expected at least one sequence, got none; check the data that was read"),
        ([3], 0, "BatchPlan: expected a budget of 1 token or more, got 0"),
        ([3, -2], 8, "BatchPlan: expected lengths of 0 or more, got -2 at 1"),
        ([1.5], 8, "BatchPlan: expected a list of whole-number lengths, got float64 of shape (1,)"),
        ([[1]], 8, "BatchPlan: expected a list of whole-number lengths, got int64 of shape (1, 1)"),
    ],
)
def test_wrong_arguments(lengths, tokens, message):
    with pytest.raises(ValueError) as error:
        BatchPlan(lengths, tokens)
    assert str(error.value) == message


def test_no_batches_before_the_first_step():
    with pytest.raises(ValueError, match="BatchPlan.at: expected a step of 0 or more, got -1"):
        BatchPlan([1]).at(-1)


def test_nothing_to_evaluate_is_no_batches():
    assert sorted_batches([], 8) == []
