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
    """Lengths of the sequences (and of their keys, where they differ), heads (H, G), widths (D, Dv), and the options.

    `bias` spells its first two axes: "SH" has numbers of each sequence and head, "1H" the same for all sequences, "eH"
    is "1H" expanded. Where it `hides`, some numbers are -inf, and whole rows.
    """

    name: str
    lengths: tuple[int, ...]
    key_lengths: tuple[int, ...] | None = None
    heads: tuple[int, int] = (2, 2)
    widths: tuple[int, int] = (8, 8)
    pattern: Pattern = FULL
    scale: float | None = None
    softcap: float | None = None
    bias: str = ""
    hides: bool = False
    sink: bool = False

    def offsets(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        return offsets_of(self.lengths), None if self.key_lengths is None else offsets_of(self.key_lengths)


ODD = (0, 1, 2, 63, 130, 0, 7, 7, 7, 31)
CROSS = ((3, 1, 0, 20, 5, 9, 4, 6), (7, 40, 5, 20, 2, 0, 9, 4))  # keys: more, more, some, as many, fewer, none, ...

FEW = (0, 1, 5, 5, 37, 3)

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
    Case("softcap", FEW, heads=(4, 2), scale=1.0, softcap=3.0),
    Case("softcap, causal window, long", (270, 17), pattern=Pattern(37, 0), softcap=2.0),
    Case("softcap, other keys", *CROSS, pattern=CAUSAL, softcap=0.5),
    Case("bias", FEW, heads=(4, 2), bias="SH"),
    Case("bias, the same for all sequences", FEW, heads=(4, 2), bias="1H"),
    Case("bias, the same for all heads, causal", FEW, heads=(4, 2), pattern=CAUSAL, bias="S1"),
    Case("bias, one for all, window", FEW, pattern=Pattern(2, 2), bias="11"),
    Case("bias, expanded over sequences", FEW, widths=(8, 3), bias="eH"),
    Case("bias, expanded over heads, causal", FEW, pattern=CAUSAL, bias="Se"),
    Case("bias, expanded over both", FEW, heads=(4, 1), bias="ee"),
    Case("bias, causal window, long", (270, 17), pattern=Pattern(37, 0), bias="SH"),
    Case("bias, equal windows", (64, 64, 64), pattern=Pattern(5, 3), bias="1H"),
    Case("bias, other keys", *CROSS, heads=(4, 2), widths=(8, 6), bias="SH"),
    Case("bias, other keys, causal", *CROSS, pattern=CAUSAL, bias="S1"),
    Case("bias, other keys, window", *CROSS, pattern=Pattern(2, 1), bias="1H"),
    Case("bias that hides", FEW, heads=(4, 2), bias="SH", hides=True),
    Case("bias that hides, causal", FEW, pattern=CAUSAL, bias="1H", hides=True),
    Case("bias that hides, other keys, window", *CROSS, pattern=Pattern(3, 1), bias="S1", hides=True),
    Case("bias and sink, no sequences", (), bias="SH", sink=True),
    Case("bias and sink, no keys", (3, 4), (0, 0), bias="1H", sink=True),
    Case("sink", FEW, heads=(4, 2), sink=True),
    Case("sink, large scores, causal", (11, 64), pattern=CAUSAL, scale=4.0, sink=True),
    Case("sink, other keys, window", *CROSS, pattern=Pattern(2, 1), sink=True),
    Case("softcap and bias", FEW, scale=1.0, softcap=3.0, bias="1H"),
    Case("bias that hides, and sink", FEW, pattern=CAUSAL, bias="S1", hides=True, sink=True),
    Case("all at once", *CROSS, (4, 2), (8, 6), Pattern(9, 2), softcap=1.5, bias="SH", sink=True),
)


def offsets_of(lengths) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0)


@lru_cache(None)
def tensors(case: Case, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """q, k, v, bias and sink, and the gradients of out and lse: numbers that the dtype holds exactly."""
    generator = torch.Generator().manual_seed(len(case.name))
    keys = case.lengths if case.key_lengths is None else case.key_lengths
    (h, g), (d, dv), rows = case.heads, case.widths, sum(case.lengths)
    shapes = {"q": (rows, h, d), "k": (sum(keys), g, d), "v": (sum(keys), g, dv)}
    shapes |= {"out": (rows, h, dv), "lse": (rows, h)}
    if case.bias:
        sizes = {"S": len(keys), "H": h, "1": 1, "e": 1}
        longest = max(case.lengths, default=0) + 1, max(keys, default=0) + 2
        shapes["bias"] = *(sizes[letter] for letter in case.bias), *longest
    if case.sink:
        shapes["sink"] = (h,)
    numbers = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
    if case.hides:
        numbers["bias"][torch.rand(shapes["bias"], generator=generator) < 0.3] = -torch.inf
        numbers["bias"][:, :, 1::4] = -torch.inf
    if case.bias:  # what no query and key meet is never read
        numbers["bias"][:, :, -1:], numbers["bias"][..., -2:] = torch.nan, torch.nan
        for s, (n, m) in enumerate(zip(case.lengths, keys, strict=True) if case.bias[0] == "S" else ()):
            numbers["bias"][s, :, n:], numbers["bias"][s, ..., m:] = torch.nan, torch.nan
    return {name: t.to(dtype) for name, t in numbers.items()}


def answer(
    attend, case: Case, dtype: torch.dtype, device="cpu", computed_in=None, frozen=()
) -> dict[str, torch.Tensor]:
    """Results of `attend(q, k, v, offsets, key_offsets, pattern, scale, **others)`: out, lse, and the gradients of q,
    k, v and the others through out alone, through lse alone, and through both; those named in `frozen` take none."""
    inputs = {name: t.to(device, computed_in or dtype).clone() for name, t in tensors(case, dtype).items()}
    grad_out, grad_lse = inputs.pop("out"), inputs.pop("lse")
    learned = {name: t.requires_grad_() for name, t in inputs.items() if name not in frozen}
    scale = case.widths[0] ** -0.5 if case.scale is None else case.scale
    q, k, v, others = inputs["q"], inputs["k"], inputs["v"], {}
    if case.softcap is not None:
        others["softcap"] = case.softcap
    if case.bias:
        sizes = len(case.lengths), q.shape[1]
        sizes = (size if letter == "e" else -1 for letter, size in zip(case.bias, sizes, strict=True))
        others["bias"] = inputs["bias"].expand(*sizes, -1, -1)
    if case.sink:
        others["sink"] = inputs["sink"]
    out, lse = attend(q, k, v, *case.offsets(), case.pattern, scale, **others)
    assert out.dtype == q.dtype
    assert lse.dtype == torch.promote_types(out.dtype, torch.float32)
    answers = {"out": out, "lse": lse}
    ends = {"out": grad_out, "lse": grad_lse.to(lse.dtype)}
    for through in (("out",), ("lse",), ("out", "lse")):
        starts = [answers[end] for end in through], list(learned.values()), [ends[end] for end in through]
        grads = torch.autograd.grad(*starts, retain_graph=True, materialize_grads=True)
        for name, grad in zip(learned, grads, strict=True):
            answers[f"d{name} through {' and '.join(through)}"] = grad
    return {name: t.detach().cpu() for name, t in answers.items()}


def through_the_door(backend: str):
    """`attend` as above, by way of `attention(backend=...)`."""

    def attend(q, k, v, offsets, key_offsets, pattern, scale, **others):
        others |= {"key_offsets": key_offsets, "scale": scale, "backend": backend}
        return attention(q, k, v, offsets, pattern, **others)

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


def examine(attend, case: Case, dtype: torch.dtype, device="cpu", frozen=()) -> None:
    """Raises AssertionError where an answer is further from the truth than the rule allows."""
    truth, own = expected(case, dtype)
    largest = {name: distance(t.masked_fill(t.isinf(), 0), torch.zeros(())) for name, t in truth.items()}
    for name in truth:  # a gradient may cancel to nothing, but what was summed is as large as its fellows
        fellows = [n for n in truth if n.partition(" ")[2] == name.partition(" ")[2] != ""]
        largest[name] = max(largest[n] for n in [name, *fellows])
    for name, result in answer(attend, case, dtype, device, frozen=frozen).items():
        what = f"{case.name}, {dtype}, {name}"
        assert result.shape == truth[name].shape, f"{what}: {list(result.shape)} for {list(truth[name].shape)}"
        error = distance(result, truth[name])
        allowed = 2 * own[name] + ULPS * torch.finfo(result.dtype).eps * largest[name]
        assert error <= allowed, f"{what}: error {error:.2e}, allowed {allowed:.2e} (own {own[name]:.2e})"
