"""Sequences is a list of tensors: every index, every conversion and every gradient, against a plain list."""

import copy
import gc
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from sightline.attention import CAUSAL, Request, attention
from sightline.attention.operator import BACKENDS
from sightline.sequences import MOST_CACHED, Layout, Sequences

LENGTHS = st.lists(st.sampled_from([0, 0, 1, 1, 2, 3, 3, 7]), max_size=8)
FULL_LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=8)
drawn = settings(max_examples=150, deadline=None, derandomize=True)


def pack(lengths, *row) -> tuple[Sequences, list[torch.Tensor]]:
    """Sequences, and the plain list of tensors that they should be: every row holds other numbers."""
    values = torch.arange(sum(lengths) * torch.Size(row).numel(), dtype=torch.float64).view(sum(lengths), *row)
    parts = list(values.split(lengths)) if lengths else []
    return Sequences(values, torch.tensor([0, *lengths]).cumsum(0)), parts


def same(sequences: Sequences, parts: list[torch.Tensor]) -> bool:
    ends = torch.tensor([0, *map(len, parts)]).cumsum(0)
    return (
        isinstance(sequences, Sequences)
        and sequences.offsets.dtype == torch.int64
        and torch.equal(sequences.offsets, ends)
        and len(sequences.values) == ends[-1]
        and len(sequences) == len(parts)
        and all(torch.equal(a, b) for a, b in zip(sequences, parts, strict=True))
    )


# --- a list of tensors ----------------------------------------------------------------------------------------------


@drawn
@given(LENGTHS, st.sampled_from([(), (2,), (3, 0), (2, 1, 2)]))
def test_it_holds_what_was_put_in(lengths, row):
    sequences, parts = pack(lengths, *row)
    assert same(sequences, parts)
    assert [t.tolist() for t in sequences.to_list()] == [t.tolist() for t in parts]
    assert sequences.lengths.tolist() == lengths
    assert sequences.positions.tolist() == [i for n in lengths for i in range(n)]
    assert sequences.sequence_ids.tolist() == [s for s, n in enumerate(lengths) for _ in range(n)]
    covered = [n for first, count, n in sequences.runs for _ in range(count)]
    assert covered == lengths
    assert [first for first, *_ in sequences.runs] == [
        s for s, n in enumerate(lengths) if s == 0 or lengths[s - 1] != n
    ]


@drawn
@given(LENGTHS)
def test_every_integer(lengths):
    sequences, parts = pack(lengths, 2)
    for s in range(-len(parts), len(parts)):
        for index in (s, torch.tensor(s), torch.tensor(s).numpy()[()]):
            assert torch.equal(sequences[index], parts[s])
        assert len(parts[s]) == 0 or sequences[s].data_ptr() == parts[s].data_ptr()  # a view
    for s in (len(parts), -len(parts) - 1):
        with pytest.raises(IndexError):
            sequences[s]


ENDS = st.one_of(st.none(), st.integers(-10, 10))


@drawn
@given(LENGTHS, ENDS, ENDS, st.one_of(st.none(), st.integers(-4, 4).filter(bool)))
def test_every_slice(lengths, start, stop, step):
    sequences, parts = pack(lengths, 2)
    assert same(sequences[start:stop:step], parts[start:stop:step])


@pytest.mark.parametrize("lengths", [[], [0], [3], [2, 0, 1]])
def test_every_slice_of_short_lists(lengths):
    sequences, parts = pack(lengths)
    ends = [None, *range(-5, 6)]
    for index in (slice(a, b, c) for a in ends for b in ends for c in (None, 1, 2, 3, -1, -2)):
        assert same(sequences[index], parts[index]), index


@drawn
@given(LENGTHS.filter(len), st.data())
def test_lists_masks_and_integer_tensors(lengths, data):
    sequences, parts = pack(lengths, 2)
    places = data.draw(st.lists(st.integers(-len(parts), len(parts) - 1), max_size=10))
    chosen = [parts[s] for s in places]
    assert same(sequences[places], chosen)
    for dtype in (torch.int64, torch.int32, torch.int8):
        assert same(sequences[torch.tensor(places, dtype=dtype)], chosen)
    mask = data.draw(st.lists(st.booleans(), min_size=len(parts), max_size=len(parts)))
    chosen = [part for part, take in zip(parts, mask, strict=True) if take]
    assert same(sequences[mask], chosen)
    assert same(sequences[torch.tensor(mask)], chosen)


def test_nothing_taken_from_nothing():
    empty = Sequences(torch.zeros(0, 3), [0])
    assert len(empty) == 0 and list(empty) == [] and empty.to_list() == [] and empty.runs == []
    for index in ([], torch.tensor([]).long(), torch.tensor([]).bool(), slice(None), slice(None, None, -1)):
        assert same(empty[index], []) and empty[index].values.shape == (0, 3)


def test_slices_of_neighbours_are_views_and_iteration_too():
    sequences, _ = pack([2, 0, 3, 1])
    assert sequences[1:3].values.data_ptr() == sequences[2].data_ptr()
    assert [t.data_ptr() for t in sequences if len(t)] == [sequences[s].data_ptr() for s in (0, 2, 3)]


# --- there and back -------------------------------------------------------------------------------------------------


@drawn
@given(LENGTHS, st.sampled_from([(), (2,), (2, 3)]))
def test_lists_and_padded_batches_there_and_back(lengths, row):
    sequences, parts = pack(lengths, *row)
    if parts:
        assert same(Sequences.from_list(parts), parts)
        assert same(Sequences.from_list(tuple(parts)), parts)
    padded, sizes = sequences.to_padded(-7)
    assert padded.shape == (len(parts), max(lengths, default=0), *row) and sizes.tolist() == lengths
    for s, part in enumerate(parts):
        assert torch.equal(padded[s, : len(part)], part) and (padded[s, len(part) :] == -7).all()
    assert same(Sequences.from_padded(padded, sizes), parts)
    assert same(Sequences.from_padded(padded, sizes.tolist()), parts)


@drawn
@given(FULL_LENGTHS, st.sampled_from([(), (2,)]))
def test_packed_as_pytorch_packs(lengths, row):
    sequences, parts = pack(lengths, *row)
    ours, theirs = sequences.to_packed(), pack_sequence(parts, enforce_sorted=False)
    assert torch.equal(ours.batch_sizes, theirs.batch_sizes)
    assert [torch.equal(t, parts[s]) for s, t in enumerate(Sequences.from_packed(theirs))]
    assert same(Sequences.from_packed(ours), parts)
    assert same(Sequences.from_packed(theirs), parts)
    back = torch.nn.utils.rnn.unpack_sequence(ours)
    assert all(torch.equal(a, b) for a, b in zip(back, parts, strict=True))
    by_length = sorted(parts, key=len, reverse=True)
    assert same(Sequences.from_packed(pack_sequence(by_length)), by_length)  # which remembers no order


def test_gradients_flow_through_every_conversion():
    values = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    sequences = Sequences(values, [0, 2, 2, 3, 6])
    sums = {
        "padded": lambda s: s.to_padded()[0].square().sum(),
        "padded and back": lambda s: Sequences.from_padded(*s.to_padded(9.0)).values.square().sum(),
        "list and back": lambda s: Sequences.from_list(s.to_list()).values.square().sum(),
        "packed and back": lambda s: Sequences.from_packed(s[[0, 2, 3]].to_packed()).values.square().sum() + s[1].sum(),
        "iteration": lambda s: sum(t.square().sum() for t in s),
        "a permutation": lambda s: s[[3, 0, 1, 2]].values.square().sum(),
        "slices": lambda s: s[:2].values.square().sum() + s[:1:-1].values.square().sum(),
        "with_values": lambda s: s.with_values(s.values.square()).values.sum(),
        "another dtype": lambda s: s.to(torch.float32).values.square().sum(),
    }
    for name, sum_of in sums.items():
        (grad,) = torch.autograd.grad(sum_of(sequences), values)
        torch.testing.assert_close(grad, 2 * values.detach(), rtol=1e-6, atol=1e-6, msg=name)
    twice = sequences[[0, 0, 3]].values.sum()
    assert torch.autograd.grad(twice, values)[0][:, 0].tolist() == [2, 2, 0, 1, 1, 1]
    assert torch.autograd.gradcheck(lambda v: Sequences(v, [0, 2, 2, 6]).to_padded()[0], values)


# --- what is shared -------------------------------------------------------------------------------------------------


def test_with_values_shares_all_that_follows_from_the_offsets():
    sequences, _ = pack([2, 0, 3])
    other = sequences.with_values(torch.ones(5, 4))
    assert other.offsets is sequences.offsets and other.values.shape == (5, 4)
    assert other.positions is sequences.positions and other.sequence_ids is sequences.sequence_ids
    assert other.lengths is sequences.lengths and other.runs is sequences.runs
    assert sequences.positions is sequences.positions


def test_equal_bare_offsets_have_one_layout_and_it_is_a_copy():
    offsets = torch.tensor([0, 2, 5])
    layout = Layout.of(offsets)
    assert Layout.of(offsets.clone()) is layout and Layout.of(torch.tensor([0, 3, 5])) is not layout
    offsets[1] = 4
    assert layout.offsets.tolist() == layout.starts.tolist() == [0, 2, 5]
    assert (len(layout), layout.rows, layout.longest) == (2, 5, 3)
    for wrong, fault in (
        ([1, 2], "that start at 0, got 1"),
        ([0, 2, 1], "that never fall, got 2 then 1 at sequence 1"),
    ):
        with pytest.raises(ValueError, match=f"^Layout: expected offsets {fault}; use Sequences, "):
            Layout.of(torch.tensor(wrong))


def test_a_layout_computes_once_and_forgets_when_it_has_too_much():
    layout, calls = Sequences(torch.ones(3), [0, 1, 3]).layout, []

    def make(layout, number):
        calls.append(number)
        return [number]

    assert layout.cached(make, 1) is layout.cached(make, 1) and layout.cached(make, 2) == [2] and calls == [1, 2]
    for number in range(3 * MOST_CACHED):
        assert layout.cached(make, number) == [number]
        assert len(layout._cache) <= MOST_CACHED


def test_what_was_planned_in_inference_mode_serves_training():
    with torch.inference_mode():
        x = Sequences(torch.randn(40, 2, 8), [0, 3, 20, 20, 40])
        for backend in ("cpu", "blockwise", None):
            attention(x.values, x.values, x.values, x.layout, CAUSAL, backend=backend)
        tensors = x.offsets, x.lengths, x.positions, x.sequence_ids
    assert not any(t.is_inference() for t in tensors)
    for backend in ("cpu", "blockwise", None):
        q = torch.randn(40, 2, 8, requires_grad=True)
        attention(q, q, q, x.layout, CAUSAL, backend=backend).out.sum().backward()


@pytest.mark.parametrize("backend", ["native", "cpu", "blockwise", "reference"])
def test_written_offsets_lead_no_backend_astray(backend):
    x = Sequences(torch.randn(9, 2, 8), [0, 4, 9])
    expected = attention(x.values, x.values, x.values, torch.tensor([0, 4, 9]), backend="reference").out
    x.offsets[1] = 2**40
    try:
        result = attention(x.values, x.values, x.values, x.layout, backend=backend).out
    except ValueError as refusal:  # where there is no compiler
        assert backend == "native" and "needs a C compiler" in str(refusal)
    else:
        torch.testing.assert_close(result, expected)


def test_a_copy_has_a_layout_of_its_own_without_what_was_computed():
    x = Sequences(torch.randn(9, 2, 8), [0, 4, 9])
    attention(x.values, x.values, x.values, x.layout)
    twin = copy.deepcopy(x)
    assert twin.layout is not x.layout and twin.layout._cache == {} and same(twin, x.to_list())


def test_a_layout_ends_with_its_batch():
    x = Sequences(torch.randn(9, 2, 8), [0, 4, 9])
    keys = Sequences(torch.randn(7, 2, 8), [0, 2, 7])
    for backend in ("native", "cpu", "blockwise"):
        if (
            backend != "native"
            or BACKENDS["native"].refuses(Request(*[x.values] * 3, x.layout, x.layout, CAUSAL, 1.0)) is None
        ):
            attention(x.values, x.values, x.values, x.layout, backend=backend)
            attention(x.values, keys.values, keys.values, x.layout, key_offsets=keys.layout, backend=backend)
    x.positions, x.runs, keys.lengths  # noqa: B018
    layouts = [weakref.ref(s.layout) for s in (x, keys)]
    gc.disable()
    try:
        del x, keys
        assert [layout() for layout in layouts] == [None, None]
    finally:
        gc.enable()


def test_to_moves_values_and_leaves_offsets():
    sequences, _ = pack([2, 1])
    half = sequences.to(torch.float16)
    assert half.values.dtype == torch.float16 and half.offsets is sequences.offsets
    away = sequences.to("meta")
    assert away.values.device.type == away.positions.device.type == away.sequence_ids.device.type == "meta"
    assert away.offsets.device.type == away.lengths.device.type == "cpu"
    assert sequences.positions.device.type == "cpu"


def test_offsets_may_be_a_list_or_any_integers():
    values = torch.ones(3)
    for offsets in ([0, 1, 3], torch.tensor([0, 1, 3]).int(), torch.tensor([0, 1, 3]).short(), (0, 1, 3)):
        assert Sequences(values, offsets).offsets.dtype == torch.int64
        assert Sequences(values, offsets).lengths.tolist() == [1, 2]


def test_repr_says_what_it_is():
    sequences, _ = pack([2, 1], 4)
    assert repr(sequences) == "Sequences(2 sequences, 3 rows, row shape [4], torch.float64, cpu)"


# --- errors ---------------------------------------------------------------------------------------------------------

ONE = torch.ones(3)
FAULTS = {
    "values in a list": (lambda: Sequences([1, 2], [0, 2]), TypeError,
        "Sequences: expected values as a tensor [T, ...], got list; pass a tensor with rows"),
    "a number": (lambda: Sequences(torch.tensor(1.0), [0, 1]), TypeError,
        "Sequences: expected values as a tensor [T, ...], got a tensor [] of torch.float32; pass a tensor with rows"),
    "no offsets": (lambda: Sequences(ONE, []), TypeError,
        "Sequences: expected offsets as one row of integers [S + 1], got a tensor [0] of torch.float32; "
        "make them int64"),
    "offsets with fractions": (lambda: Sequences(ONE, [0.0, 3.0]), TypeError,
        "Sequences: expected offsets as one row of integers [S + 1], got a tensor [2] of torch.float32; "
        "make them int64"),
    "booleans": (lambda: Sequences(ONE, torch.tensor([False, True])), TypeError,
        "Sequences: expected offsets as one row of integers [S + 1], got a tensor [2] of torch.bool; "
        "make them int64"),
    "two rows of offsets": (lambda: Sequences(ONE, [[0, 3]]), TypeError,
        "Sequences: expected offsets as one row of integers [S + 1], got a tensor [1, 2] of torch.int64; "
        "make them int64"),
    "offsets from 1": (lambda: Sequences(ONE, [1, 3]), ValueError,
        "Sequences: expected offsets that start at 0, got 1; put a 0 in front"),
    "offsets that fall": (lambda: Sequences(ONE, [0, 2, 1, 3]), ValueError,
        "Sequences: expected offsets that never fall, got 2 then 1 at sequence 1; sort out the lengths"),
    "offsets too short": (lambda: Sequences(ONE, [0, 2]), ValueError,
        "Sequences: expected offsets that end at 3 rows, got 2; count the rows again"),
    "offsets too long": (lambda: Sequences(ONE, [0, 4]), ValueError,
        "Sequences: expected offsets that end at 3 rows, got 4; count the rows again"),
    "other rows": (lambda: Sequences(ONE, [0, 3]).with_values(torch.ones(4)), ValueError,
        "Sequences.with_values: expected 3 rows, got 4; keep one row for each old one"),
    "an index beyond": (lambda: Sequences(ONE, [0, 3])[1], IndexError,
        "Sequences: expected an index below 1 sequences, got 1; check the batch's length"),
    "an index of two parts": (lambda: Sequences(ONE, [0, 3])[0, 1], TypeError,
        "Sequences: expected an integer, a slice, a list or a tensor as index, got tuple; "
        "index sequences first, then their rows"),
    "an index with a fraction": (lambda: Sequences(ONE, [0, 3])[0.5], TypeError,
        "Sequences: expected an integer, a slice, a list or a tensor as index, got float; "
        "index sequences first, then their rows"),
    "a list beyond": (lambda: Sequences(ONE, [0, 3])[[0, -2]], IndexError,
        "Sequences: expected indices below 1 sequences, got [0, -2]; check the batch's length"),
    "a list from nothing": (lambda: Sequences(ONE[:0], [0])[[0]], IndexError,
        "Sequences: expected indices below 0 sequences, got [0]; check the batch's length"),
    "a short mask": (lambda: Sequences(ONE, [0, 1, 3])[[True]], IndexError,
        "Sequences: expected a boolean for each of 2 sequences, got 1; make the mask as long"),
    "fractions": (lambda: Sequences(ONE, [0, 3])[[0.0]], TypeError,
        "Sequences: expected one row of integers or booleans as index, got a tensor [1] of torch.float32; flatten it"),
    "an index of two axes": (lambda: Sequences(ONE, [0, 3])[torch.tensor([[0]])], TypeError,
        "Sequences: expected one row of integers or booleans as index, got a tensor [1, 1] of torch.int64; flatten it"),
    "an empty list": (lambda: Sequences.from_list([]), ValueError,
        "Sequences.from_list: expected at least one tensor, got an empty list; "
        "for no sequences use Sequences(values[:0], [0])"),
    "lists of numbers": (lambda: Sequences.from_list([[1, 2], [3]]), TypeError,
        "Sequences.from_list: expected tensors, got list; make them with torch.tensor"),
    "unlike rows": (lambda: Sequences.from_list([torch.ones(2, 3), torch.ones(2, 4)]), ValueError,
        "Sequences.from_list: expected tensors [n, ...] with one row shape, got [(3,), (4,)]; make the rows alike"),
    "tensors without rows": (lambda: Sequences.from_list([torch.tensor(1.0)]), ValueError,
        "Sequences.from_list: expected tensors [n, ...] with one row shape, got [()]; make the rows alike"),
    "padded without rows": (lambda: Sequences.from_padded(ONE, [1, 1, 1]), ValueError,
        "Sequences.from_padded: expected padded [S, L, ...] and lengths [S], got [3] and [3]; "
        "give one length for each sequence"),
    "lengths of others": (lambda: Sequences.from_padded(torch.ones(2, 3), [1]), ValueError,
        "Sequences.from_padded: expected padded [S, L, ...] and lengths [S], got [2, 3] and [1]; "
        "give one length for each sequence"),
    "lengths too long": (lambda: Sequences.from_padded(torch.ones(2, 3), [1, 4]), ValueError,
        "Sequences.from_padded: expected lengths from 0 to 3, got 1 to 4; check that padded is [S, L, ...]"),
    "negative lengths": (lambda: Sequences.from_padded(torch.ones(2, 3), [-1, 2]), ValueError,
        "Sequences.from_padded: expected lengths from 0 to 3, got -1 to 2; check that padded is [S, L, ...]"),
    "nothing to pack": (lambda: Sequences(ONE, [0, 0, 3]).to_packed(), ValueError,
        "Sequences.to_packed: expected at least one row in every sequence, got an empty one; "
        "PackedSequence cannot hold it, select the others first"),
    "none to pack": (lambda: Sequences(ONE[:0], [0]).to_packed(), ValueError,
        "Sequences.to_packed: expected at least one row in every sequence, got an empty one; "
        "PackedSequence cannot hold it, select the others first"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be(fault):
    call, kind, sentence = FAULTS[fault]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == sentence


def test_an_empty_packed_sequence_of_pytorch_comes_over():
    one = PackedSequence(torch.ones(2, 3), torch.tensor([1, 1]))
    assert same(Sequences.from_packed(one), [torch.ones(2, 3)])
