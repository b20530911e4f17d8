"""The door: what it refuses and with which sentence, which backend it takes, and who looks."""

import threading

import pytest
import torch

from sightline.attention import CAUSAL, FULL, Attended, Pattern, Request, attention, native, watching
from sightline.attention.operator import BACKENDS, _choose
from sightline.kernels.toolchain import library
from sightline.sequences import Layout

Q = torch.randn(5, 4, 8)
K = torch.randn(5, 2, 8)
OFFSETS = torch.tensor([0, 2, 5])

FAULTS = {
    "q of two axes": (
        lambda: attention(Q[0], K, K, OFFSETS),
        ValueError,
        "attention: expected q [T, H, D], k [R, G, D] and v [R, G, Dv], got [[4, 8], [5, 2, 8], [5, 2, 8]]; "
        "split the heads off the width",
    ),
    "another head width": (
        lambda: attention(Q, K[..., :7], K, OFFSETS),
        ValueError,
        "attention: expected q [T, H, D], k [R, G, D] and v [R, G, Dv] with H a multiple of G, "
        "got [[5, 4, 8], [5, 2, 7], [5, 2, 8]]; make the widths and heads agree",
    ),
    "three key heads for four": (
        lambda: attention(Q, *[torch.zeros(5, 3, 8)] * 2, OFFSETS),
        ValueError,
        "attention: expected q [T, H, D], k [R, G, D] and v [R, G, Dv] with H a multiple of G, "
        "got [[5, 4, 8], [5, 3, 8], [5, 3, 8]]; make the widths and heads agree",
    ),
    "no key heads": (
        lambda: attention(Q, K[:, :0], K[:, :0], OFFSETS),
        ValueError,
        "attention: expected q [T, H, D], k [R, G, D] and v [R, G, Dv] with H a multiple of G, "
        "got [[5, 4, 8], [5, 0, 8], [5, 0, 8]]; make the widths and heads agree",
    ),
    "fewer values than keys": (
        lambda: attention(Q, K, K[1:], OFFSETS),
        ValueError,
        "attention: expected q [T, H, D], k [R, G, D] and v [R, G, Dv] with H a multiple of G, "
        "got [[5, 4, 8], [5, 2, 8], [4, 2, 8]]; make the widths and heads agree",
    ),
    "two dtypes": (
        lambda: attention(Q, K, K.double(), OFFSETS),
        TypeError,
        "attention: expected q, k and v of one floating dtype on one device, got torch.float32 on cpu, "
        "torch.float32 on cpu, torch.float64 on cpu; convert them",
    ),
    "integers": (
        lambda: attention(Q.long(), K.long(), K.long(), OFFSETS),
        TypeError,
        "attention: expected q, k and v of one floating dtype on one device, got torch.int64 on cpu, "
        "torch.int64 on cpu, torch.int64 on cpu; convert them",
    ),
    "a pair for a pattern": (
        lambda: attention(Q, K, K, OFFSETS, (2, 0)),
        TypeError,
        "attention: expected a Pattern, got tuple; for everything leave it out, or CAUSAL, or Pattern(left, right)",
    ),
    "a scale to be learned": (
        lambda: attention(Q, K, K, OFFSETS, scale=torch.ones((), requires_grad=True)),
        TypeError,
        "attention: expected scale as a number, got a tensor that requires a gradient; multiply q by it instead",
    ),
    "all dropped": (
        lambda: attention(Q, K, K, OFFSETS, dropout=1.0),
        ValueError,
        "attention: expected a dropout from 0 to below 1, got 1.0; it is the share of weights dropped",
    ),
    "a softcap of nothing": (
        lambda: attention(Q, K, K, OFFSETS, softcap=0.0),
        ValueError,
        "attention: expected a softcap above 0, got 0.0; scores stay below it, and None leaves them as they are",
    ),
    "a softcap without limit": (
        lambda: attention(Q, K, K, OFFSETS, softcap=float("inf")),
        ValueError,
        "attention: expected a finite softcap, got inf; None leaves the scores as they are",
    ),
    "a bias of two axes": (
        lambda: attention(Q, K, K, OFFSETS, bias=torch.zeros(3, 3)),
        ValueError,
        "attention: expected bias [2 or 1, 4 or 1, 3 or more, 3 or more], got [3, 3]; "
        "give one number for each query and key of the longest sequence",
    ),
    "a bias of the key heads": (
        lambda: attention(Q, K, K, OFFSETS, bias=torch.zeros(1, 2, 3, 3)),
        ValueError,
        "attention: expected bias [2 or 1, 4 or 1, 3 or more, 3 or more], got [1, 2, 3, 3]; "
        "give one number for each query and key of the longest sequence",
    ),
    "a bias of three sequences": (
        lambda: attention(Q, K, K, OFFSETS, bias=torch.zeros(3, 4, 3, 3)),
        ValueError,
        "attention: expected bias [2 or 1, 4 or 1, 3 or more, 3 or more], got [3, 4, 3, 3]; "
        "give one number for each query and key of the longest sequence",
    ),
    "a bias for fewer queries": (
        lambda: attention(Q, K, K, OFFSETS, bias=torch.zeros(1, 1, 2, 3)),
        ValueError,
        "attention: expected bias [2 or 1, 4 or 1, 3 or more, 3 or more], got [1, 1, 2, 3]; "
        "give one number for each query and key of the longest sequence",
    ),
    "a bias for fewer keys": (
        lambda: attention(Q, K, K, OFFSETS, key_offsets=torch.tensor([0, 1, 5]), bias=torch.zeros(1, 1, 3, 3)),
        ValueError,
        "attention: expected bias [2 or 1, 4 or 1, 3 or more, 4 or more], got [1, 1, 3, 3]; "
        "give one number for each query and key of the longest sequence",
    ),
    "a bias of truths": (
        lambda: attention(Q, K, K, OFFSETS, bias=torch.ones(1, 1, 3, 3, dtype=torch.bool)),
        TypeError,
        "attention: expected bias as a floating tensor [S or 1, H or 1, N, M] on cpu, got torch.bool on cpu; "
        "convert it",
    ),
    "a bias elsewhere": (
        lambda: attention(Q, K, K, OFFSETS, bias=torch.ones(1, 1, 3, 3, device="meta")),
        TypeError,
        "attention: expected bias as a floating tensor [S or 1, H or 1, N, M] on cpu, got torch.float32 on meta; "
        "convert it",
    ),
    "a sink for each key head": (
        lambda: attention(Q, K, K, OFFSETS, sink=torch.zeros(2)),
        ValueError,
        "attention: expected sink [4], got [2]; give one score for each head of q",
    ),
    "a sink that is a number": (
        lambda: attention(Q, K, K, OFFSETS, sink=1.0),
        TypeError,
        "attention: expected sink as a floating tensor [H] on cpu, got float; convert it",
    ),
    "offsets in a list": (
        lambda: attention(Q, K, K, [0, 2, 5]),
        TypeError,
        "attention: expected offsets as an int64 tensor [S + 1] on the CPU, or a Layout, got list; "
        "use Sequences.layout",
    ),
    "offsets of 32 bits": (
        lambda: attention(Q, K, K, OFFSETS.int()),
        TypeError,
        "attention: expected offsets as an int64 tensor [S + 1] on the CPU, or a Layout, got torch.int32 [3] on cpu; "
        "use Sequences.layout",
    ),
    "offsets elsewhere": (
        lambda: attention(Q, K, K, OFFSETS.to("meta")),
        TypeError,
        "attention: expected offsets as an int64 tensor [S + 1] on the CPU, or a Layout, got torch.int64 [3] on meta; "
        "use Sequences.layout",
    ),
    "offsets of two axes": (
        lambda: attention(Q, K, K, OFFSETS[None]),
        TypeError,
        "attention: expected offsets as an int64 tensor [S + 1] on the CPU, or a Layout, "
        "got torch.int64 [1, 3] on cpu; use Sequences.layout",
    ),
    "no offsets": (
        lambda: attention(Q, K, K, OFFSETS[:0]),
        ValueError,
        "attention: expected offsets that start at 0, got none; use Sequences, which checks them once",
    ),
    "offsets from 1": (
        lambda: attention(Q, K, K, torch.tensor([1, 5])),
        ValueError,
        "attention: expected offsets that start at 0, got 1; use Sequences, which checks them once",
    ),
    "offsets that fall": (
        lambda: attention(Q, K, K, torch.tensor([0, 4, 3, 5])),
        ValueError,
        "attention: expected offsets that never fall, got 4 then 3 at sequence 1; "
        "use Sequences, which checks them once",
    ),
    "offsets too short": (
        lambda: attention(Q, K, K, torch.tensor([0, 4])),
        ValueError,
        "attention: expected offsets that end at 5 rows, got 4; use Sequences, which checks them once",
    ),
    "a layout of fewer rows": (
        lambda: attention(Q, K, K, Layout.of(torch.tensor([0, 4]))),
        ValueError,
        "attention: expected offsets that end at 5 rows, got 4; use Sequences, which checks them once",
    ),
    "other keys, unsaid": (
        lambda: attention(Q, K[:3], K[:3], OFFSETS),
        ValueError,
        "attention: expected as many keys as queries, got 3 and 5; or give key_offsets",
    ),
    "key offsets that end elsewhere": (
        lambda: attention(Q, K, K, OFFSETS, key_offsets=torch.tensor([0, 1, 4])),
        ValueError,
        "attention: expected key_offsets that end at 5 rows, got 4; use Sequences, which checks them once",
    ),
    "key offsets of fewer sequences": (
        lambda: attention(Q, K, K, OFFSETS, key_offsets=torch.tensor([0, 5])),
        ValueError,
        "attention: expected offsets and key_offsets of the same sequences, got 2 and 1; give one key range for each",
    ),
    "an unknown backend": (
        lambda: attention(Q, K, K, OFFSETS, backend="flash"),
        ValueError,
        "attention: expected a backend out of native, cpu, cuda, blockwise, reference, got 'flash'; "
        "leave it out to have one chosen",
    ),
    "dropout on the CPU's kernel": (
        lambda: attention(Q, K, K, OFFSETS, dropout=0.5, backend="cpu"),
        ValueError,
        "attention: cpu: has no dropout on weights; set dropout=0, or use backend='blockwise'",
    ),
    "softcap on the CPU's kernel": (
        lambda: attention(Q, K, K, OFFSETS, softcap=5.0, backend="cpu"),
        ValueError,
        "attention: cpu: has no softcap; leave it out, or use backend='blockwise'",
    ),
    "a learned bias on the CPU's kernel": (
        lambda: attention(Q, K, K, OFFSETS, bias=torch.zeros(1, 1, 3, 3, requires_grad=True), backend="cpu"),
        ValueError,
        "attention: cpu: has no gradient of bias; detach it, or use backend='blockwise'",
    ),
    "the CPU's kernel elsewhere": (
        lambda: attention(*[Q.to("meta")] * 3, OFFSETS, backend="cpu"),
        ValueError,
        "attention: cpu: expected tensors on the CPU, got meta; move them, or leave the backend to be chosen",
    ),
    "the GPU's kernel here": (
        lambda: attention(Q, K, K, OFFSETS, backend="cuda"),
        ValueError,
        "attention: cuda: expected tensors on an NVIDIA GPU, got cpu; move them, or leave the backend to be chosen",
    ),
    "a negative reach": (
        lambda: Pattern(left=-1),
        ValueError,
        "Pattern: expected left as a count from 0 up or None, got -1; None means all",
    ),
    "half a reach": (
        lambda: Pattern(right=0.5),
        ValueError,
        "Pattern: expected right as a count from 0 up or None, got 0.5; None means all",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_request_that_makes_no_sense(fault):
    call, kind, sentence = FAULTS[fault]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == sentence


def test_where_all_refuse_each_says_why(monkeypatch):
    for name, backend in BACKENDS.items():
        monkeypatch.setattr(backend, "refuses", lambda *request, name=name: f"{name}: no; ask another")
    with pytest.raises(
        ValueError, match="^attention: native: no; .*; cpu: no; .*; cuda: no; .*; blockwise: no; .*; reference: no; "
    ):
        attention(Q, K, K, OFFSETS)


def test_the_first_backend_that_does_not_refuse_is_taken():
    def chosen(name=None, q=Q, k=K, **options):
        return _choose(name, Request(q, k, k, Layout.of(OFFSETS), Layout.of(OFFSETS), FULL, 1.0, **options))

    bias = torch.zeros(1, 1, 3, 3, requires_grad=True)
    first = BACKENDS["cpu" if library(native.SOURCE) is None else "native"]
    assert chosen() is chosen(sink=Q[0, :, 0]) is first
    assert chosen(bias=bias.detach()) is chosen(q=Q.double(), k=K.double()) is BACKENDS["cpu"]
    assert chosen(dropout=0.5) is chosen(softcap=2.0) is chosen(bias=bias) is BACKENDS["blockwise"]
    assert chosen("reference", dropout=0.5) is BACKENDS["reference"]
    assert chosen(q=Q.to("meta"), k=Q.to("meta")) is BACKENDS["blockwise"]
    with torch.no_grad():
        assert chosen(bias=bias) is BACKENDS["cpu"]


def test_an_error_inside_a_backend_is_not_covered_up_by_another(monkeypatch):
    def broken(*request):
        raise RuntimeError("broken")

    for name in ("native", "cpu"):
        monkeypatch.setattr(BACKENDS[name], "attend", broken)
    with pytest.raises(RuntimeError, match="broken"):
        attention(Q, K, K, OFFSETS)


def test_the_scale_is_that_of_the_paper_unless_given():
    expected = attention(Q, K, K, OFFSETS, scale=8**-0.5)
    assert all(torch.equal(a, b) for a, b in zip(attention(Q, K, K, OFFSETS), expected, strict=True))
    assert not torch.equal(attention(Q, K, K, OFFSETS, scale=1.0).out, expected.out)


# --- watching -------------------------------------------------------------------------------------------------------


def noting(seen: list):
    return lambda *request: seen.append(request)


def test_a_watcher_sees_the_request_and_the_very_result():
    seen, keys = [], torch.tensor([0, 4, 5])
    with watching(noting(seen)):
        attended = attention(Q, K, K, OFFSETS, CAUSAL, key_offsets=keys, scale=0.5)
        attention(Q, K, K, OFFSETS)
    attention(Q, K, K, OFFSETS)
    assert len(seen) == 2
    request, result = seen[0]
    assert isinstance(request, Request) and isinstance(result, Attended) and result is attended
    assert request.q is Q and request.k is K and request.v is K
    assert torch.equal(request.offsets, OFFSETS) and torch.equal(request.key_offsets, keys)
    assert request.pattern == CAUSAL and request.scale == 0.5
    assert seen[1][0].key_layout is seen[1][0].layout and seen[1][0][5:11] == (FULL, 8**-0.5, 0.0, None, None, None)
    assert request.origin is None


def test_watching_leaves_outputs_and_gradients_bit_identical():
    def run():
        q = Q.clone().requires_grad_()
        out, lse = attention(q, K, K, OFFSETS)
        return out, lse, *torch.autograd.grad(out.sum() + lse.sum(), q)

    with watching(lambda *request: request[-1].out.sum()):
        watched = run()
    assert all(torch.equal(a, b) for a, b in zip(watched, run(), strict=True))


def test_watchers_nest_and_the_inner_ends_first():
    outer, inner = [], []
    with watching(noting(outer)):
        attention(Q, K, K, OFFSETS)
        with watching(noting(inner)):
            attention(Q, K, K, OFFSETS)
        attention(Q, K, K, OFFSETS)
    assert (len(outer), len(inner)) == (3, 1)


def test_a_watcher_ends_with_an_error_too():
    seen = []
    with pytest.raises(KeyError), watching(noting(seen)):
        raise KeyError
    attention(Q, K, K, OFFSETS)
    assert seen == []


def test_watchers_in_two_threads_see_their_own():
    both_watch, counts = threading.Barrier(2), {}

    def work(name: str, times: int):
        seen = []
        with watching(noting(seen)):
            both_watch.wait()
            for _ in range(times):
                attention(Q, K, K, OFFSETS)
            both_watch.wait()
        counts[name] = len(seen)

    main = []
    with watching(noting(main)):
        threads = [threading.Thread(target=work, args=request) for request in (("a", 3), ("b", 5))]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    assert counts == {"a": 3, "b": 5} and main == []


def test_widths_and_windows_at_their_ends():
    rows, offsets = torch.randn(5, 2, 0), torch.tensor([0, 5])
    assert attention(rows, rows, torch.ones(5, 2, 3), offsets).out.allclose(torch.ones(5, 2, 3))
    q = torch.randn(5, 2, 8)
    for backend in BACKENDS:
        if backend != "cuda":
            wide = attention(q, q, q, offsets, Pattern(10**20, 0), backend=backend).out
            torch.testing.assert_close(wide, attention(q, q, q, offsets, CAUSAL, backend="reference").out)
