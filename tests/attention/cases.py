"""The table of cases that every attention backend answers, and the one rule that says whether an answer is right.

An answer may be at most twice as far from the float64 reference as the reference is when run in the input's own
precision, plus a few units in the last place: nothing here is tuned to a machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from sightline.attention import CAUSAL, FULL, Pattern, attention

ULPS = 8  # units in the last place, of the largest number of each tensor
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Case:
    """Lengths of the sequences (and of their keys, where they differ), heads (H, G), widths (D, Dv), pattern, scale."""

    name: str
    lengths: tuple[int, ...]
    key_lengths: tuple[int, ...] | None = None
    heads: tuple[int, int] = (2, 2)
    widths: tuple[int, int] = (8, 8)
    pattern: Pattern = FULL
    scale: float | None = None

    def offsets(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        return offsets_of(self.lengths), None if self.key_lengths is None else offsets_of(self.key_lengths)


ODD = (0, 1, 2, 63, 130, 0, 7, 7, 7, 31)
CROSS = (
    (3, 1, 0, 20, 5, 9, 4, 6),
    (7, 40, 5, 20, 2, 0, 9, 4),
)  # keys: more, more, some, as many, fewer, none, ...

CASES = (
    Case("no sequences", ()),
    Case("only empty ones", (0, 0)),
    Case("one row", (1,)),
    Case("full", ODD, heads=(4, 4), widths=(16, 16)),
    Case("full, grouped heads", ODD, heads=(6, 2)),
    Case("full, long", (300, 1, 13)),
    Case("narrow values", (5, 0, 17, 17), widths=(12, 3)),
    Case("wide values", (5, 0, 17, 17), heads=(4, 1), widths=(4, 16)),
    Case("the widest heads", (5, 9), widths=(250, 256), pattern=CAUSAL),
    Case("large scores", (11, 64), scale=4.0),
    Case("small scores", (11, 5), scale=0.1),
    Case("causal", ODD, pattern=CAUSAL, heads=(4, 2)),
    Case("causal, long, narrow values", (300, 17), widths=(8, 5), pattern=CAUSAL),
    Case("window", ODD, pattern=Pattern(2, 2), heads=(4, 2)),
    Case("causal window, long", (300, 17, 300), pattern=Pattern(37, 0)),
    Case("lopsided window", ODD, pattern=Pattern(11, 3)),
    Case("window wider than all", ODD, pattern=Pattern(500, 500)),
    Case("only to the left", ODD, pattern=Pattern(left=5)),
    Case("only to the right", ODD, pattern=Pattern(right=5)),
    Case("nothing behind", (40, 3, 3), pattern=Pattern(left=0)),
    Case("only itself", ODD, pattern=Pattern(0, 0)),
    Case("other keys", *CROSS, heads=(4, 2), widths=(8, 6)),
    Case("other keys, causal", *CROSS, pattern=CAUSAL),
    Case("other keys, window", *CROSS, pattern=Pattern(2, 1)),
    Case("other keys, to the left", *CROSS, pattern=Pattern(left=1)),
    Case("other keys, to the right", *CROSS, pattern=Pattern(right=2)),
    Case("other keys, wide window", *CROSS, pattern=Pattern(500, 21)),
    Case("keys that nobody sees", (0, 3), (3, 3)),
    Case("a window inside more keys", (64,), (200,), pattern=Pattern(32, 0)),
    Case("no keys", (3, 4), (0, 0)),
    Case("no queries", (0, 0), (3, 4)),
    Case("fewer keys than queries, to the left", (9, 9), (2, 3), pattern=Pattern(left=1)),
    Case("one query each", (1, 1, 1, 0, 1), (4, 9, 1, 3, 9), heads=(4, 2)),
    Case("one query each, causal", (1, 1, 1), (4, 9, 1), heads=(4, 2), pattern=CAUSAL),
    Case("one row each", (1, 1, 1, 1), heads=(4, 2)),
)


def offsets_of(lengths) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0)


@lru_cache(None)
def tensors(case: Case, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """q, k, v and the gradients of out and lse: numbers that the dtype holds exactly, the same in every process."""
    generator = torch.Generator().manual_seed(len(case.name))
    rows, keys = sum(case.lengths), sum(case.lengths if case.key_lengths is None else case.key_lengths)
    (h, g), (d, dv) = case.heads, case.widths
    shapes = (rows, h, d), (keys, g, d), (keys, g, dv), (rows, h, dv), (rows, h)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes)


def answer(attend, case: Case, dtype: torch.dtype, device="cpu", computed_in=None) -> dict[str, torch.Tensor]:
    """What `attend(q, k, v, offsets, key_offsets, pattern, scale)` gives: out, lse, and the gradients of q, k and v through
    out alone, through lse alone, and through both."""
    *inputs, grad_out, grad_lse = (t.to(device, computed_in or dtype) for t in tensors(case, dtype))
    inputs = [t.clone().requires_grad_() for t in inputs]
    scale = case.widths[0] ** -0.5 if case.scale is None else case.scale
    out, lse = attend(*inputs, *case.offsets(), case.pattern, scale)
    assert out.dtype == inputs[0].dtype
    assert lse.dtype == torch.promote_types(out.dtype, torch.float32)
    answers = {"out": out, "lse": lse}
    ends = {"out": grad_out, "lse": grad_lse.to(lse.dtype)}
    for through in (("out",), ("lse",), ("out", "lse")):
        starts = [answers[end] for end in through], inputs, [ends[end] for end in through]
        grads = torch.autograd.grad(*starts, retain_graph=True, materialize_grads=True)
        for name, grad in zip("qkv", grads, strict=True):
            answers[f"d{name} through {' and '.join(through)}"] = grad
    return {name: t.detach().cpu() for name, t in answers.items()}


def through_the_door(backend: str):
    """`attend` as above, by way of `attention(backend=...)`."""

    def attend(q, k, v, offsets, key_offsets, pattern, scale):
        return attention(q, k, v, offsets, pattern, key_offsets=key_offsets, scale=scale, backend=backend)

    return attend


@lru_cache(None)
def expected(case: Case, dtype: torch.dtype) -> tuple[dict, dict]:
    """The truth, and for each tensor how far from it the reference is in the input's own precision.

    There is no wider type to say so of float64: it is taken to err as float32 does, with smaller units.
    """
    attend, narrow = through_the_door("reference"), torch.float32 if dtype == torch.float64 else dtype
    truth = answer(attend, case, dtype, computed_in=torch.float64)
    close = answer(attend, case, narrow, computed_in=torch.float64) if dtype == torch.float64 else truth
    plain = answer(attend, case, narrow)
    units = torch.finfo(dtype).eps / torch.finfo(narrow).eps
    return truth, {name: units * distance(plain[name], close[name]) for name in truth}


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference; equal infinities are no difference."""
    a, b = a.double(), b.double()
    return (a - b).masked_fill(a == b, 0).abs().max().item() if a.numel() else 0.0


def examine(attend, case: Case, dtype: torch.dtype, device="cpu") -> None:
    """Raises AssertionError where an answer is further from the truth than the rule allows."""
    truth, own = expected(case, dtype)
    largest = {name: distance(t.masked_fill(t.isinf(), 0), torch.zeros(())) for name, t in truth.items()}
    for name in truth:  # a gradient may cancel to nothing, but what was summed is as large as its fellows
        fellows = [n for n in truth if n.partition(" ")[2] == name.partition(" ")[2] != ""]
        largest[name] = max(largest[n] for n in [name, *fellows])
    for name, got in answer(attend, case, dtype, device).items():
        what = f"{case.name}, {dtype}, {name}"
        assert got.shape == truth[name].shape, f"{what}: {list(got.shape)} for {list(truth[name].shape)}"
        error = distance(got, truth[name])
        allowed = 2 * own[name] + ULPS * torch.finfo(got.dtype).eps * largest[name]
        assert error <= allowed, f"{what}: error {error:.2e}, allowed {allowed:.2e} (own {own[name]:.2e})"
