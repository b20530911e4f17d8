"""The GPU's backend without a GPU: its calls of PyTorch's kernels are right if the kernels keep their promises."""

from types import SimpleNamespace

import pytest
import torch

from sightline.attention import CAUSAL, FULL, Request, blockwise, cuda
from sightline.attention.operator import _with_sink
from sightline.sequences import Layout
from tests.attention import emulated
from tests.attention.cases import CASES, Case, answer, examine, offsets_of


@pytest.fixture
def kernels(monkeypatch):
    """The emulated kernels in place of PyTorch's; gives the list of the calls made."""
    calls = []

    def noted(kernel):
        def call(*args, **kwargs):
            calls.append(kernel.__name__)
            return kernel(*args, **kwargs)

        return call

    monkeypatch.setattr(cuda, "kernel", noted(emulated.flash))
    monkeypatch.setattr(cuda, "kernel_backward", noted(emulated.flash_backward))
    return calls


def attend(q, k, v, offsets, key_offsets, pattern, scale, sink=None):
    key_offsets = offsets if key_offsets is None else key_offsets
    attended = cuda.attend(Request(q, k, v, Layout.of(offsets), Layout.of(key_offsets), pattern, scale))
    return attended if sink is None else _with_sink(*attended, sink)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", [c for c in CASES if not c.bias and c.softcap is None], ids=lambda case: case.name)
def test_a_case(case, dtype, kernels, poison):
    examine(attend, case, dtype)


@pytest.mark.parametrize("scale", [-0.3, -4.0, 0.0])
def test_a_scale_that_is_not_positive(scale, kernels, poison):
    for pattern in (CAUSAL, FULL):
        examine(attend, Case(f"scale {scale}", (5, 0, 7), heads=(4, 2), pattern=pattern, scale=scale), torch.bfloat16)


def test_the_whole_pack_is_one_call_and_one_back(kernels):
    answer(attend, Case("", (5, 0, 7), heads=(4, 2), widths=(5, 3)), torch.bfloat16)
    assert kernels == ["flash", *["flash_backward"] * 3]  # through out, through lse, through both


def test_where_no_column_is_left_for_lse_its_gradient_comes_blockwise(kernels):
    answer(attend, Case("", (5, 7), widths=(256, 256)), torch.bfloat16)
    assert kernels == ["flash", "flash_backward"]  # through out alone


def test_the_gradient_of_lse_is_not_rounded_to_16_bits(kernels):
    q, k, v = (torch.ones(2, 1, 8, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    out, lse = attend(q, k, v, torch.tensor([0, 1, 2]), None, FULL, 1.0)
    (grad,) = torch.autograd.grad(lse, q, torch.tensor([[1 + 2**-9], [3.0]]))
    assert grad[0].eq(torch.tensor(1 + 2**-9).bfloat16()).all() and grad[1].eq(3).all()
    columns = cuda._with_lse(q, k, v, out.detach(), out.detach(), torch.tensor([[1 + 2**-9], [3.0]]))
    assert columns[3][..., -2:].float().sum(-1).flatten().tolist() == [-1 - 2**-9, -3]


def test_rows_that_begin_anywhere_are_copied_and_others_not(kernels):
    rows = torch.randn(6, 3, 17).bfloat16()
    aligned, shifted = rows[..., :16].clone(), rows[..., 1:]
    assert cuda._loadable(aligned, 16) is aligned
    assert cuda._loadable(aligned[1:, :2], 16).data_ptr() == aligned[1:].data_ptr()
    assert cuda._loadable(shifted, 16).is_contiguous()
    a, b = ((attend(t, t, t, offsets_of((2, 4)), None, CAUSAL, 0.3)) for t in (shifted, shifted.clone()))
    assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])


def test_offsets_are_brought_to_the_device_once():
    layout = Layout.of(offsets_of((3, 0, 9)))
    first, second = (layout.cached(cuda._bounds, torch.device("cpu")) for _ in range(2))
    assert first is second and first.dtype == torch.int32 and first.tolist() == [0, 3, 3, 12]
    assert layout.longest == 9 and Layout.of(offsets_of(())).longest == 0


def tensor(device="cuda", dtype=torch.bfloat16, width=64):
    return SimpleNamespace(device=torch.device(device), dtype=dtype, shape=(5, 2, width))


@pytest.mark.parametrize(
    ("like", "wide", "options", "capability", "sentence"),
    [
        ({"device": "cpu"}, 64, {}, (9, 0),
            "cuda: expected tensors on an NVIDIA GPU, got cpu; move them, or leave the backend to be chosen"),
        ({}, 64, {}, (7, 5),
            "cuda: expected a GPU of compute capability 8.0 or later, got 7.5; use backend='blockwise'"),
        ({"dtype": torch.float32}, 64, {}, (9, 0),
            "cuda: expected float16 or bfloat16, got torch.float32; convert, or use backend='blockwise'"),
        ({}, 264, {}, (9, 0),
            "cuda: expected heads no wider than 256, got 264; use more heads, or backend='blockwise'"),
        ({}, 64, {"scale": -2e3}, (9, 0),
            "cuda: expected a scale from -1024 to 1024, got -2000.0; use backend='blockwise'"),
        ({}, 64, {"dropout": 0.1}, (9, 0),
            "cuda: has no dropout on weights; set dropout=0, or use backend='blockwise'"),
        ({}, 64, {"softcap": 5.0}, (9, 0), "cuda: has no softcap; leave it out, or use backend='blockwise'"),
        ({}, 64, {"bias": 0}, (9, 0), "cuda: has no bias; leave it out, or use backend='blockwise'"),
        ({}, 256, {"sink": 0}, (8, 0), None),
    ],
)  # fmt: skip
def test_refusals(like, wide, options, capability, sentence, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    q, v = tensor(**like), tensor(width=wide, **like)
    request = Request(q, q, v, None, None, CAUSAL, **{"scale": 1.0, **options})
    assert cuda.refuses(request) == sentence
    assert blockwise.refuses(request) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: the kernels themselves are examined on one")
def test_on_a_gpu_the_door_chooses_by_dtype():
    from sightline.attention.operator import _choose

    for dtype, backend in ((torch.bfloat16, cuda), (torch.float32, blockwise)):
        q = torch.zeros(1, 1, 8, device="cuda", dtype=dtype)
        assert _choose(None, Request(q, q, q, None, None, FULL, 1.0)) is backend
