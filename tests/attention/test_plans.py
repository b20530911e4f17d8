"""Pure functions plan what is computed: every visible pair of query and key is in one rectangle, and only one."""

from unittest.mock import patch

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.attention import FULL, Pattern, Request, rectangles, strips
from sightline.attention.reference import visible
from sightline.sequences import Layout

LENGTHS = st.sampled_from([0, 1, 1, 2, 3, 5, 15, 16, 17, 31, 40, 40, 270])
PACKS = st.lists(LENGTHS, max_size=9)
REACH = st.sampled_from([None, None, 0, 0, 1, 2, 7, 33, 260, 1000])
PATTERNS = st.builds(Pattern, REACH, REACH)
drawn = settings(max_examples=120, deadline=None, derandomize=True)


@st.composite
def cross_packs(draw):
    lengths = draw(PACKS)
    return lengths, draw(st.lists(LENGTHS, min_size=len(lengths), max_size=len(lengths)))


def starts(lengths) -> np.ndarray:
    return np.cumsum([0, *lengths], dtype=np.int64)


def layout_of(offsets: np.ndarray) -> Layout:
    return Layout.of(torch.from_numpy(offsets))


def visible_pairs(offsets: np.ndarray, key_offsets: np.ndarray, pattern: Pattern) -> np.ndarray:
    """int [T, R]: 1 where the query sees the key, by the reference."""
    pairs = np.zeros((offsets[-1], key_offsets[-1]), int)
    for s in range(len(offsets) - 1):
        (a, b), (c, d) = offsets[s : s + 2], key_offsets[s : s + 2]
        pairs[a:b, c:d] = visible(b - a, d - c, int((d - c) - (b - a)), pattern).numpy()
    return pairs


def covered_by(plan: rectangles.Plan, rows: int, keys: int, pattern: Pattern):
    """How often each pair is computed [T, R], each query is written [T], and each key is derived [R]."""
    pairs, queries, derived = np.zeros((rows, keys), int), np.zeros(rows, int), np.zeros(keys, int)
    source = plan.source.numpy()
    spare = np.zeros(len(source), bool)
    spare[plan.spare.numpy()] = True
    assert (source[plan.slots] == plan.rows.numpy()).all() and not spare[plan.slots].any()
    assert (np.diff(plan.rows) > 0).all() and len(plan.slots) + spare.sum() == len(source)
    for r in (*plan.direct, *plan.staged):
        for block in range(r.count):
            i = r.query + block * r.query_step + np.arange(r.queries)
            j = r.key + block * r.key_step + np.arange(r.keys)
            seen = np.ones((r.queries, r.keys), bool)
            if r.mask == "causal":
                seen = np.tri(r.queries, r.keys, dtype=bool)
            elif r.mask == "band":
                seen = visible(r.queries, r.keys, r.behind, pattern).numpy()
            elif r.mask == "pad":
                seen[:, r.hidden[block, 0, 0].isinf().numpy()] = False
            if any(r is staged for staged in plan.staged):
                seen = seen[~spare[i]]
                assert not seen[:, spare[j]].any(), "a row sees what only fills up"
                seen, i, j = seen[:, ~spare[j]], source[i[~spare[i]]], source[j[~spare[j]]]
            np.add.at(pairs, np.ix_(i, j), seen)
            np.add.at(queries, i, 1)
            np.add.at(derived, j, 1)
    return pairs, queries, derived


def check_cpu(lengths, key_lengths, pattern, heads, width):
    offsets = starts(lengths)
    key_offsets = offsets if key_lengths is None else starts(key_lengths)
    key_layout = None if key_lengths is None else layout_of(key_offsets)
    plan = rectangles._plan(layout_of(offsets), key_layout, pattern, heads, width, False)
    pairs, queries, derived = covered_by(plan, offsets[-1], key_offsets[-1], pattern)
    assert (pairs == visible_pairs(offsets, key_offsets, pattern)).all()
    assert queries.max(initial=0) <= 1
    assert plan.blind == (queries == 0).any()
    assert plan.overlap or (derived == 1).all()


@drawn
@given(PACKS, PATTERNS, st.sampled_from([1, 4, 16]), st.sampled_from([1, 32, 128]))
def test_the_cpu_computes_each_visible_pair_once(lengths, pattern, heads, width):
    check_cpu(lengths, None, pattern, heads, width)


@drawn
@given(cross_packs(), PATTERNS)
def test_so_it_does_with_keys_from_elsewhere(packs, pattern):
    check_cpu(*packs, pattern, 2, 8)


@drawn
@given(cross_packs(), PATTERNS)
def test_with_a_bias_each_rectangle_knows_its_sequences_and_its_place_in_them(packs, pattern):
    offsets, key_offsets = map(starts, packs)
    plan = rectangles._plan(layout_of(offsets), layout_of(key_offsets), pattern, 2, 8, True)
    pairs, _, _ = covered_by(plan, offsets[-1], key_offsets[-1], pattern)
    assert (pairs == visible_pairs(offsets, key_offsets, pattern)).all() and not plan.staged
    for r in plan.direct:
        of = r.sequence + np.arange(r.count)
        assert (r.query + r.query_step * np.arange(r.count) == offsets[of] + r.i).all()
        assert (r.key + r.key_step * np.arange(r.count) == key_offsets[of] + r.j).all()


def test_as_many_keys_seen_twice_as_not_at_all():
    """Their number is right: no query sees one key of the first sequence; two blocks see one key of the second."""
    for lengths, key_lengths, pattern in (((5, 64), (7, 65), Pattern(1, 1)), ((31, 64), (67, 64), Pattern(2, None))):
        check_cpu(lengths, key_lengths, pattern, 2, 8)


@given(st.integers(1, 200), st.integers(2, 2000), st.sampled_from([(0, 0), (5, 0), (3, 9)]))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_the_mask_of_a_window_does_not_grow_with_the_sequence(count, length, reach):
    offsets = np.arange(count + 1, dtype=np.int64) * length
    plan = rectangles._plan(layout_of(offsets), None, Pattern(*reach), 2, 8, False)
    for r in plan.direct:
        assert r.mask != "band" or r.queries * r.keys <= rectangles.BLOCK * (rectangles.BLOCK + sum(reach))


def request_of(offsets: torch.Tensor, heads: int, width: int, **wishes) -> Request:
    q = torch.empty(int(offsets[-1]), heads, width)
    layout = Layout.of(offsets)
    return Request(q, q, q, layout, layout, FULL, 1.0, **wishes)


def test_equal_lengths_side_by_side_are_one_call_without_copies():
    offsets = torch.arange(9) * 512
    plan = rectangles.plan(request_of(offsets, 4, 32))
    assert len(plan.direct) == 1 and not plan.staged and plan.direct[0].count == 8


def test_a_plan_is_made_once():
    offsets = torch.tensor([0, 3, 9])
    for planner in (rectangles, strips):
        assert planner.plan(request_of(offsets, 2, 8)) is planner.plan(request_of(offsets.clone(), 2, 8))


@drawn
@given(cross_packs(), PATTERNS, st.sampled_from([(4, 64), (32, 2048), (256, 2**21)]), st.sampled_from([1, 6]))
def test_blockwise_computes_each_visible_pair_once(packs, pattern, sizes, heads):
    offsets, key_offsets = map(starts, packs)
    with patch.multiple(strips, BLOCK=sizes[0], TILE=sizes[1]):
        some = strips._plan(layout_of(offsets), layout_of(key_offsets), pattern, heads)
    expected = visible_pairs(offsets, key_offsets, pattern)
    pairs, queries = np.zeros_like(expected), np.zeros(offsets[-1], int)
    rows, keys = torch.arange(offsets[-1])[:, None], torch.arange(key_offsets[-1])[:, None, None]
    for strip in some:
        assert strip.query == offsets[strip.sequence] and strip.key == key_offsets[strip.sequence]
        i = strip.queries(rows)[:, 0].numpy()
        np.add.at(queries, i.ravel(), 1)
        for tile in strip.tiles:
            j = strip.keys(keys, tile)[:, 0, :, 0].numpy()
            assert strip.count * heads * i.shape[1] * j.shape[1] <= max(sizes[1], heads * sizes[0] ** 2)
            np.add.at(pairs, (i[:, :, None], j[:, None, :]), 1)
    assert queries.max(initial=0) <= 1 and pairs.max(initial=0) <= 1
    assert (pairs >= expected).all()  # what a tile holds besides is hidden when it is computed
