"""Every backend gives the reference's answers: value and gradients, for every case of the table, and nothing leaks."""

import resource

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from sightline import sequences
from sightline.attention import CAUSAL, FULL, Pattern, attention, reference, strips
from sightline.attention.operator import BACKENDS
from tests.attention.cases import (
    CASES,
    CROSS,
    DTYPES,
    ODD,
    Case,
    answer,
    examine,
    offsets_of,
    tensors,
    through_the_door,
)

HALVES = (torch.bfloat16, torch.float16)
CANDIDATES = [("native", "cpu"), ("cpu", "cpu"), ("blockwise", "cpu")]  # backend, device
if torch.cuda.is_available():
    CANDIDATES += [("cuda", "cuda"), ("blockwise", "cuda")]
FROZEN = {"cpu": ("bias",)}  # what a backend takes only without a gradient
candidates = pytest.mark.parametrize(("backend", "device"), CANDIDATES, ids=["-on-".join(c) for c in CANDIDATES])


def taken(backend: str, dtype: torch.dtype) -> torch.dtype:
    """The dtype, or the nearest that the backend takes."""
    if backend == "native":
        return torch.float32
    return dtype if backend != "cuda" or dtype in HALVES else torch.bfloat16


def refused(backend: str, case: Case) -> bool:
    """Whether the backend refuses the case, though nothing in it takes a gradient."""
    return (case.softcap is not None and backend in ("native", "cpu", "cuda")) or (
        case.bias != "" and backend in ("native", "cuda")
    )


def qkv(rows: int, heads=2, width=8, dtype=torch.float32, device="cpu", seed=0):
    generator = torch.Generator().manual_seed(seed)
    packed = torch.randn(rows, 3 * heads, width, generator=generator).to(device, dtype)
    return packed.requires_grad_().split(heads, 1)  # views, as a projection gives them


# --- the table ------------------------------------------------------------------------------------------------------


@candidates
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case(backend, device, dtype, case, poison):
    if taken(backend, dtype) == dtype and not refused(backend, case):
        examine(through_the_door(backend), case, dtype, device, frozen=FROZEN.get(backend, ()))


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles so small that the table's sequences have many."""
    monkeypatch.setattr(strips, "BLOCK", 32)
    monkeypatch.setattr(strips, "TILE", 2048)
    sequences._shared.cache_clear()
    yield
    sequences._shared.cache_clear()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_in_many_tiles(case, small_tiles, poison):
    examine(through_the_door("blockwise"), case, torch.float32)


@pytest.mark.parametrize("pattern", [FULL, CAUSAL, Pattern(3, 1)])
def test_the_reference_is_pytorchs_dense_attention(pattern):
    q, k, v = qkv(23, dtype=torch.float64)
    out = attention(q, k, v, torch.tensor([0, 23]), pattern, backend="reference").out
    seen = torch.ones(23, 23, dtype=torch.bool)
    seen = seen.triu(-(23 if pattern.left is None else pattern.left))
    seen = seen.tril(23 if pattern.right is None else pattern.right)
    dense = scaled_dot_product_attention(*(t.transpose(0, 1) for t in (q, k, v)), attn_mask=seen)
    torch.testing.assert_close(out, dense.transpose(0, 1))


GRADCHECK = (
    Case("", (2, 0, 1, 3, 3), heads=(2, 1), widths=(2, 1)),
    Case("", (3, 2), heads=(2, 1), widths=(2, 3), pattern=CAUSAL),
    Case("", (4, 2), heads=(1, 1), widths=(2, 2), pattern=Pattern(1, 1)),
    Case("", (2, 3, 1), (3, 1, 0), heads=(2, 1), widths=(2, 2)),
    Case("", (2, 3), (4, 2), heads=(2, 1), widths=(2, 2), pattern=Pattern(1, 0)),
    Case("", (2, 3), (4, 2), heads=(2, 1), widths=(2, 2), bias="SH", pattern=CAUSAL),
    Case("", (2, 2, 0), heads=(2, 2), widths=(2, 1), bias="1H", softcap=2.0, sink=True),
    Case("", (3, 2), (1, 3), heads=(2, 1), widths=(1, 2), bias="S1", pattern=Pattern(0, 1), sink=True),
)


@pytest.mark.parametrize("case", GRADCHECK)
@pytest.mark.parametrize("backend", ["cpu", "blockwise", "reference"])
def test_gradients_by_finite_differences(backend, case):
    if refused(backend, case):
        return
    inputs = {name: t.clone() for name, t in tensors(case, torch.float64).items() if name not in ("out", "lse")}
    for name, t in inputs.items():
        t.requires_grad_(name not in FROZEN.get(backend, ()))

    def both(q, k, v, *others):
        others = dict(zip(list(inputs)[3:], others, strict=True), softcap=case.softcap)
        out, lse = through_the_door(backend)(q, k, v, *case.offsets(), case.pattern, 0.7, **others)
        return out, lse.masked_fill(lse == -torch.inf, 0)  # whose differences would be NaN

    assert torch.autograd.gradcheck(both, tuple(inputs.values()))


# --- neighbours -----------------------------------------------------------------------------------------------------


@candidates
@pytest.mark.parametrize("pattern", [FULL, CAUSAL, Pattern(20, 3)])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_nothing_leaks_out_of_a_neighbour(backend, device, pattern, bad, poison):
    lengths = (7, 7, 0, 7, 130, 5, 3, 130)
    offsets, dtype = offsets_of(lengths), taken(backend, torch.float32)
    clean = qkv(sum(lengths), dtype=dtype, device=device)
    before = _with_gradients(clean, offsets, pattern, backend)
    for s in (0, 4, 6):
        rows = slice(*offsets[s : s + 2].tolist())
        others = torch.ones(sum(lengths), dtype=torch.bool)
        others[rows] = False
        for spoiled in range(3):
            dirty = [t.detach().clone() for t in clean]
            dirty[spoiled][rows] = bad
            after = _with_gradients([t.requires_grad_() for t in dirty], offsets, pattern, backend)
            for a, b in zip(after, before, strict=True):
                assert a[others].isfinite().all()
                assert device != "cpu" or torch.equal(a[others], b[others])


def _with_gradients(tensors, offsets, pattern, backend):
    out, lse = attention(*tensors, offsets, pattern, backend=backend)
    return [t.detach() for t in (out, lse, *torch.autograd.grad(out.sum() + lse.sum(), tensors))]


@candidates
@pytest.mark.parametrize("pattern", [FULL, CAUSAL, Pattern(5, 2)])
def test_a_sequence_alone_is_the_same_within_the_tolerance(backend, device, pattern):
    attend = through_the_door(backend)

    def one_by_one(q, k, v, offsets, key_offsets, pattern, scale):
        parts = []
        for start, stop in offsets.unfold(0, 2, 1).tolist():
            alone = [t[start:stop] for t in (q, k, v)]
            parts.append(attend(*alone, torch.tensor([0, stop - start]), None, pattern, scale))
        return torch.cat([out for out, _ in parts]), torch.cat([lse for _, lse in parts])

    case = Case("alone", ODD, pattern=pattern, heads=(4, 2))
    examine(one_by_one, case, taken(backend, torch.float32), device)


@pytest.mark.parametrize("pattern", [FULL, CAUSAL, Pattern(9, 9)])
def test_a_long_sequence_alone_is_the_same_bit_for_bit(pattern):
    offsets = offsets_of((31, 512, 7, 1024, 64))
    tensors = qkv(int(offsets[-1]), heads=4, width=16)
    packed = attention(*tensors, offsets, pattern, backend="cpu")
    for s in (1, 3):
        rows = slice(*offsets[s : s + 2].tolist())
        alone = attention(*(t[rows] for t in tensors), offsets_of(offsets.diff()[s : s + 1]), pattern, backend="cpu")
        assert torch.equal(alone.out, packed.out[rows]) and torch.equal(alone.lse, packed.lse[rows])


# --- memory ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backend", "rows", "pattern"),
    [
        ("cpu", 14_000, FULL),
        ("cpu", 20_000, Pattern(64, 64)),
        ("blockwise", 7_000, CAUSAL),
        ("blockwise", 20_000, Pattern(64, 64)),
    ],
)
def test_memory_does_not_grow_with_the_square(backend, rows, pattern):
    tensors, offsets = qkv(rows, heads=1), torch.tensor([0, rows])
    attention(*(t[:300] for t in tensors), torch.tensor([0, 300]), pattern, backend=backend).out.sum().backward()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    out, lse = attention(*tensors, offsets, pattern, backend=backend)
    (out.sum() + lse.sum()).backward()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 2 * rows * rows  # half of one square in float32


# --- dropout --------------------------------------------------------------------------------------------------------


def dropped_weights(backend, offsets, pattern, dropout, seed, rows):
    """The weights after dropout [T, H, T]: what comes out where each value is a column of the unit matrix."""
    q, k, _ = qkv(rows, heads=2)
    v = torch.eye(rows)[:, None].expand(-1, 2, -1)
    torch.manual_seed(seed)
    return attention(q, k, v, offsets, pattern, dropout=dropout, backend=backend)


@pytest.mark.parametrize("backend", ["blockwise", "reference"])
def test_dropout_drops_its_share_and_scales_the_rest(backend):
    offsets, rows = offsets_of((100, 1, 160)), 261
    dropped, lse = dropped_weights(backend, offsets, FULL, 0.3, 0, rows)
    whole, same = dropped_weights(backend, offsets, FULL, 0.0, 0, rows)
    assert torch.equal(lse, same)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], whole[kept] / 0.7)
    share = 1 - kept.sum() / (whole != 0).sum()
    assert abs(share - 0.3) < 0.01  # of 71 thousand weights: five standard deviations


def test_dropout_is_drawn_from_the_seed_and_anew_each_time():
    first, second, third = (
        dropped_weights("blockwise", offsets_of((9, 300)), CAUSAL, 0.5, seed, 309).out for seed in (1, 1, 2)
    )
    assert torch.equal(first, second) and not torch.equal(first, third)


@pytest.mark.parametrize("pattern", [FULL, Pattern(20, 3)])
def test_dropout_has_the_gradient_of_the_weights_it_kept(pattern, small_tiles):
    offsets, rows = offsets_of((70, 0, 5, 70)), 145
    kept = (dropped_weights("blockwise", offsets, pattern, 0.4, 3, rows).out != 0).double() / 0.6
    q, k, v = qkv(rows)
    unit = torch.eye(rows, dtype=torch.float64)[:, None].expand(-1, 2, -1)
    torch.manual_seed(3)
    out, lse = attention(q, k, v, offsets, pattern, dropout=0.4, backend="blockwise")
    grads = torch.autograd.grad(out.square().sum() + lse.sin().sum(), (q, k, v))
    truth = [t.detach().double().requires_grad_() for t in (q, k, v)]
    weights, level = attention(*truth[:2], unit, offsets, pattern, backend="reference")
    plain = torch.einsum("qhk,khd->qhd", weights * kept, truth[2])
    expected = torch.autograd.grad(plain.square().sum() + level.sin().sum(), truth)
    for result, want in zip((out, lse, *grads), (plain, level, *expected), strict=True):
        torch.testing.assert_close(result.double(), want, rtol=1e-4, atol=1e-5)


def test_dropout_is_served_without_the_square():
    q, k, v = qkv(5)
    assert torch.equal(*(_seeded(q, k, v, backend) for backend in (None, "blockwise")))


def _seeded(q, k, v, backend):
    torch.manual_seed(0)
    return attention(q, k, v, torch.tensor([0, 5]), dropout=0.5, backend=backend).out


# --- the ways tensors come ------------------------------------------------------------------------------------------


@candidates
def test_any_strides(backend, device):
    dtype = taken(backend, torch.float32)
    rows, offsets = 23, offsets_of((10, 0, 13))
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(3, rows, 4, 16, generator=generator).to(device, dtype)
    plain = numbers[0], numbers[1], numbers[2]
    strided = [
        numbers.permute(1, 2, 0, 3).flatten(2).contiguous().unflatten(2, (3, 16)).unbind(2),  # slices of rows
        [t.transpose(0, 1).contiguous().transpose(0, 1) for t in plain],  # heads first
        [t.transpose(1, 2).contiguous().transpose(1, 2) for t in plain],  # columns before heads
        [torch.stack([t, t], -1)[..., 0] for t in plain],  # every other number
        [torch.cat([t[..., :1], t], -1)[..., 1:] for t in plain],  # an odd beginning
    ]
    expected = _with_gradients([t.clone().requires_grad_() for t in plain], offsets, CAUSAL, backend)
    for views in strided:
        results = _with_gradients([t.requires_grad_() for t in views], offsets, CAUSAL, backend)
        for a, b in zip(results, expected, strict=True):
            torch.testing.assert_close(a, b)


@candidates
def test_expanded_keys_and_values(backend, device):
    dtype = taken(backend, torch.float32)
    q, k, v = (t.detach() for t in qkv(12, heads=4, dtype=dtype, device=device))
    k, v = (t[:, :1].clone().requires_grad_() for t in (k, v))
    offsets, q = offsets_of((5, 7)), q.requires_grad_()
    grouped = attention(q, k, v, offsets, backend=backend).out
    expanded = attention(q, k.expand(-1, 4, -1), v.expand(-1, 4, -1), offsets, backend=backend).out
    torch.testing.assert_close(expanded, grouped)
    one_row = [t[:1].expand(12, -1, -1) for t in (k, v)]
    same = attention(q, *one_row, offsets, backend=backend).out
    torch.testing.assert_close(same, one_row[1].expand(-1, 4, -1))
    grads = [torch.autograd.grad(out.square().sum(), (q, k, v)) for out in (grouped, expanded)]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2 if dtype in HALVES else 1e-5, atol=1e-2 if dtype in HALVES else 1e-5)


@candidates
def test_only_some_need_gradients_or_none(backend, device):
    tensors = [t.detach() for t in qkv(9, dtype=taken(backend, torch.float32), device=device)]
    offsets = offsets_of((4, 5))
    full = _with_gradients([t.clone().requires_grad_() for t in tensors], offsets, FULL, backend)
    for chosen in range(3):
        some = [t.clone().requires_grad_(i == chosen) for i, t in enumerate(tensors)]
        out, lse = attention(*some, offsets, backend=backend)
        torch.testing.assert_close(torch.autograd.grad(out.sum() + lse.sum(), some[chosen])[0], full[2 + chosen])
    assert not attention(*tensors, offsets, backend=backend).out.requires_grad
    with torch.no_grad():
        out, lse = attention(*some, offsets, backend=backend)
    assert not out.requires_grad and not lse.requires_grad
    with torch.inference_mode():
        assert torch.equal(attention(*some, offsets, backend=backend).out, out)


@candidates
def test_autocast_changes_nothing(backend, device, poison):
    q, k, v = qkv(9, dtype=taken(backend, torch.float32), device=device)
    offsets = offsets_of((4, 5))
    plain = _with_gradients((q, k, v), offsets, CAUSAL, backend)
    with torch.autocast(device, torch.bfloat16):
        cast = _with_gradients((q, k, v), offsets, CAUSAL, backend)
    assert all(torch.equal(a, b) for a, b in zip(plain, cast, strict=True))


@candidates
def test_a_second_derivative_is_refused(backend, device):
    q, k, v = qkv(4, dtype=taken(backend, torch.float32), device=device)
    out = attention(q, k, v, torch.tensor([0, 4]), backend=backend).out
    with pytest.raises(RuntimeError, match="expected create_graph=False.*backend='reference'"):
        torch.autograd.grad(out.square().sum(), q, create_graph=True)


@candidates
def test_offsets_may_be_filled_anew_before_the_way_back(backend, device):
    """A buffer of them that the next batch uses: what is read then must not be what decides where to write."""
    q, k, v = qkv(6, dtype=taken(backend, torch.float32), device=device)
    offsets = torch.tensor([0, 4, 6])
    right = torch.autograd.grad(attention(q, k, v, offsets.clone(), backend=backend).out.square().sum(), (q, k, v))
    loss = attention(q, k, v, offsets, backend=backend).out.square().sum()
    offsets.copy_(torch.tensor([0, 900_000, 900_900]))
    gradients = torch.autograd.grad(loss, (q, k, v))
    assert all(torch.equal(a, b) for a, b in zip(gradients, right, strict=True))


@candidates
def test_a_sink_that_is_nothing_over_keys_that_are_none(backend, device):
    q, k, v = qkv(3, dtype=taken(backend, torch.float32), device=device)
    sink = torch.full((q.shape[1],), -torch.inf, device=device, requires_grad=True)
    two = torch.tensor([0, 3]), torch.tensor([0, 0])
    out, lse = attention(q, k[:0], v[:0], two[0], key_offsets=two[1], sink=sink, backend=backend)
    assert (out == 0).all() and (lse == -torch.inf).all()
    grads = torch.autograd.grad(out.sum() + lse.exp().sum(), (q, sink))
    assert all((grad == 0).all() for grad in grads)


def test_every_backend_of_the_door_is_examined():
    assert set(BACKENDS) == {
        "native",
        "cpu",
        "blockwise",
        "cuda",
        "reference",
    }  # cuda: here on a GPU, else in test_cuda.py
    assert reference.refuses(None) is None
    assert len({case.name for case in CASES}) == len(CASES)
    assert answer(through_the_door("cpu"), Case("cross", *CROSS), torch.float32)["out"].shape[0] == sum(CROSS[0])


@pytest.mark.parametrize("lengths", [[7], [7, 7, 7], [3, 11, 2]], ids=str)
@pytest.mark.parametrize("backend", ["cpu", "blockwise"])
def test_numbers_may_lie_apart_in_memory(backend, lengths):
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    rows = torch.randn(3, sum(lengths), 4, 8, dtype=torch.float64)
    apart = [t.flatten(1).t().contiguous().t().unflatten(1, (4, 8)).requires_grad_() for t in rows]
    plain = [t.clone().requires_grad_() for t in rows]
    assert apart[0].stride(-1) != 1
    for operands in (apart, plain):
        out, lse = attention(*operands, offsets, backend=backend)
        (out.sum() + lse.sum()).backward()  # whose gradient is one number, seen through strides of 0
    expected = attention(*[t.detach() for t in plain], offsets, backend="reference")
    torch.testing.assert_close(attention(*apart, offsets, backend=backend).out, expected.out)
    for one, other in zip(apart, plain, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("lengths", [[7], [7, 7, 7], [3, 11, 2]], ids=str)
def test_a_gradient_of_one_number_seen_through_strides(lengths):
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    rows, grads = torch.randn(3, sum(lengths), 4, 8, dtype=torch.float64), []
    for backend in ("cpu", "reference"):
        operands = [t.clone().requires_grad_() for t in rows]
        attention(*operands, offsets, backend=backend).out.sum().backward()
        grads.append([t.grad for t in operands])
    torch.testing.assert_close(grads[0], grads[1])
