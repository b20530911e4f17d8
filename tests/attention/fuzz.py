"""Random batches of attention against `oracle.py`: one generator for the tests and `make fuzz`.
    python -m tests.attention.fuzz --batches 100000
    python -m tests.attention.fuzz --seconds 600 --first 12345
    python -m tests.attention.fuzz --batches 1 --first 17        # the 17th batch again

What is finite in the oracle must be finite and near; what is NaN or infinite there must not be finite. Near: at most
twice the error of the reference in the input's own precision, plus a few units in the last place of the sum.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from sightline.attention import Pattern, Request, attention
from sightline.attention.operator import BACKENDS
from sightline.sequences import Layout
from tests.attention import oracle

ULPS = 8
HALF_EXPONENTIAL = (
    2**-14
)  # by which the exponential of PyTorch's kernel errs for 16 bits, and so an lse of scores that happen to be small
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}
LENGTHS = (0, 0, 1, 1, 2, 3, 5, 7, 7, 7, 13, 16, 17, 31, 64, 67)
SIDES = (None, None, None, 0, 0, 1, 2, 5, 33, 5000)
SCALES = (
    None,
    None,
    None,
    1.0,
    0.1,
    -0.3,
    -1.0,
    0.0,
    3.0,
    -30.0,
    100.0,
    -1e3,
    1e6,
    -1e12,
    1e30,
    -1e37,
    1e-30,
    -1e-40,
    2,
)
VIEWS = (
    "plain",
    "plain",
    "packed",
    "heads first",
    "every other",
    "columns first",
    "one row",
    "one head",
    "overlapping",
)
BIASES = ("", "", "", "SH", "1H", "S1", "11", "eH", "Se", "ee", "SH turned")


@dataclass(frozen=True)
class Batch:
    """The parameters of a call; `seed` draws its numbers. `wild` is put at `place`, in rows, pairs or gradients."""

    seed: int
    dtype: str
    lengths: tuple[int, ...]
    key_lengths: tuple[int, ...] | None
    heads: tuple[int, int]
    widths: tuple[int, int]
    pattern: tuple[int | None, int | None]
    scale: float | None
    softcap: float | None
    bias: str
    bias_dtype: str
    hides: bool
    learned: bool
    sink: str
    views: tuple[str, str, str]
    through: str
    wild: float | None
    place: str
    native: bool


def draw(pick: Callable) -> Batch:
    """A batch from `pick(options)`, which gives one of some."""
    count = pick((0, 1, 1, 2, 2, 3, 5))
    long = pick((False,) * 299 + (True,))
    lengths = (pick((1025, 1031)), 3) if long else tuple(pick(LENGTHS) for _ in range(count))
    key_lengths = None
    if pick((False, False, True)):
        key_lengths = tuple(n + pick((0, 1, 6)) if pick((True, False)) else pick(LENGTHS) for n in lengths)
    same = pick((True, True, False))
    width = pick((1, 2, 3, 4, 8, 16, 17, 33))
    return Batch(
        seed=pick(range(2**20)),
        dtype=pick(tuple(DTYPES)),
        lengths=lengths,
        key_lengths=key_lengths,
        heads=pick(((1, 1), (2, 1)) if long else ((1, 1), (2, 2), (2, 1), (3, 1), (4, 2))),
        widths=(width, width if same else pick((1, 2, 4, 5, 16, 19))),
        pattern=(pick(SIDES), pick(SIDES)),
        scale=pick(SCALES),
        softcap=pick((None, None, None, None, 0.5, 3.0, 50.0)),
        bias=pick(BIASES),
        bias_dtype=pick(tuple(DTYPES)),
        hides=pick((False, True)),
        learned=pick((False, True)),
        sink=pick(("", "", "", "some", "none")),
        views=(pick(VIEWS), pick(VIEWS), pick(VIEWS)),
        through=pick(("out", "lse", "both")),
        wild=pick((None, None, None, float("nan"), float("inf"), float("-inf"))),
        place=pick(
            ("row of q", "row of k", "row of v", "number of v", "sequence", "pair", "gradient", "keys a bias hides")
        ),
        native=pick((True, False)),
    )


def offsets(lengths) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0)


def viewed(t: torch.Tensor, view: str) -> torch.Tensor:
    """The numbers of t, or some of them again and again, seen through other strides."""
    if view == "packed":
        return torch.cat([t, t, t], 1)[:, : t.shape[1]]
    if view == "heads first":
        return t.transpose(0, 1).contiguous().transpose(0, 1)
    if view == "every other":
        return torch.stack([t, torch.full_like(t, torch.nan)], -1)[..., 0]
    if view == "columns first":
        return t.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    if view == "one row" and len(t):
        return t[:1].expand_as(t)
    if view == "one head":
        return t[:, :1].expand_as(t)
    if view == "overlapping" and t.numel():
        room = t.flatten()
        step = max(1, (len(room) - t.shape[1] * t.shape[2]) // max(1, len(t) - 1)) if len(t) > 1 else 1
        return room.as_strided(t.shape, (min(step, 3), t.shape[2], 1))
    return t


def tensors(batch: Batch) -> dict:
    """All tensors of a batch, by name; bias and sink are None where there is none."""
    generator = torch.Generator().manual_seed(batch.seed)
    (h, g), (d, dv), dtype = batch.heads, batch.widths, DTYPES[batch.dtype]
    keys = batch.lengths if batch.key_lengths is None else batch.key_lengths
    t, r = sum(batch.lengths), sum(keys)

    def normal(*shape, like=dtype):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(like)

    numbers = {"q": normal(t, h, d), "k": normal(r, g, d), "v": normal(r, g, dv)}
    numbers |= {"grad_out": normal(t, h, dv), "grad_lse": normal(t, h, like=torch.promote_types(dtype, torch.float32))}
    numbers = {
        name: viewed(x, view) for (name, x), view in zip(numbers.items(), (*batch.views, "plain", "plain"), strict=True)
    }
    if batch.through != "both":
        numbers["grad_lse" if batch.through == "out" else "grad_out"] = None
    numbers["bias"] = numbers["sink"] = None
    if batch.bias:
        n, m = max(batch.lengths, default=0) + 1, max(keys, default=0) + 2
        letters, turned = batch.bias[:2], "turned" in batch.bias
        shape = [{"S": len(keys), "H": h}.get(letter, 1) for letter in letters]
        bias = normal(*shape, *((m, n) if turned else (n, m)), like=torch.float64)
        if batch.hides:
            bias[torch.rand(bias.shape, generator=generator) < 0.3] = -torch.inf
            bias[:, :, 1::4] = -torch.inf
        bias = bias.mT if turned else bias
        numbers["bias"] = bias.to(DTYPES[batch.bias_dtype]).expand(
            len(keys) if letters[0] == "e" else -1, h if letters[1] == "e" else -1, -1, -1
        )
    if batch.sink:
        numbers["sink"] = normal(h) if batch.sink == "some" else torch.full((h,), -torch.inf, dtype=dtype)
    if batch.wild is not None:
        _spoil(batch, numbers, keys, random.Random(batch.seed))
    return numbers


def _spoil(batch: Batch, numbers: dict, keys, dice) -> None:
    """Puts NaN or infinity where the batch says."""
    for name in ("q", "k", "v"):
        numbers[name] = numbers[name].clone(memory_format=torch.contiguous_format)
    real = [s for s, n in enumerate(batch.lengths) if n and keys[s]]
    if not real:
        return
    s = dice.choice(real)
    rows, columns = offsets(batch.lengths).tolist(), offsets(keys).tolist()
    row, column = dice.randrange(rows[s], rows[s + 1]), dice.randrange(columns[s], columns[s + 1])
    match batch.place:
        case "row of q":
            numbers["q"][row] = batch.wild
        case "row of k":
            numbers["k"][column] = batch.wild
        case "row of v":
            numbers["v"][column] = batch.wild
        case "number of v":
            numbers["v"][column, 0, -1] = batch.wild
        case "sequence":
            numbers["q"][rows[s] : rows[s + 1]] = numbers["k"][columns[s] : columns[s + 1]] = batch.wild
            numbers["v"][columns[s] : columns[s + 1]] = batch.wild
        case "gradient":
            for name in ("grad_out", "grad_lse"):
                if numbers[name] is not None:
                    numbers[name][row] = batch.wild
        case _ if numbers["bias"] is not None:
            bias = numbers["bias"] = numbers["bias"].contiguous()
            if batch.place == "pair":
                bias[:, :, row - rows[s], column - columns[s]] = torch.nan
            else:
                bias[s if len(bias) > 1 else slice(None), :, :, column - columns[s]] = -torch.inf
                numbers["k"][column] = numbers["v"][column] = batch.wild


def answer(batch: Batch, numbers: dict, backend: str | None, dtype=None) -> dict:
    """Out, lse and gradients as attention gives them, as NumPy arrays."""
    inputs = {name: None if t is None else t.detach() for name, t in numbers.items()}
    if dtype is not None:
        inputs = {name: t if t is None else t.to(dtype) for name, t in inputs.items()}
    learned = [
        name
        for name in ("q", "k", "v", "bias", "sink")
        if inputs[name] is not None and (name != "bias" or batch.learned)
    ]
    for name in learned:
        inputs[name].requires_grad_()
    grads = inputs.pop("grad_out"), inputs.pop("grad_lse")
    others = {
        "scale": batch.scale,
        "softcap": batch.softcap,
        "bias": inputs["bias"],
        "sink": inputs["sink"],
        "backend": backend,
    }
    if batch.key_lengths is not None:
        others["key_offsets"] = offsets(batch.key_lengths)
    ends = attention(inputs["q"], inputs["k"], inputs["v"], offsets(batch.lengths), Pattern(*batch.pattern), **others)
    assert ends.out.dtype == inputs["q"].dtype and ends.lse.dtype == torch.promote_types(ends.out.dtype, torch.float32)
    pairs = [(end, grad) for end, grad in zip(ends, grads, strict=True) if grad is not None]
    starts = [inputs[name] for name in learned]
    back = torch.autograd.grad([e for e, _ in pairs], starts, [g.to(e.dtype) for e, g in pairs], materialize_grads=True)
    named = {"out": ends.out, "lse": ends.lse, **{"d" + name: grad for name, grad in zip(learned, back, strict=True)}}
    return {name: t.detach() for name, t in named.items()}


def _array(t):
    return None if t is None else t.detach().double().numpy() if t.dtype != torch.float64 else t.detach().numpy()


def truth(batch: Batch, numbers: dict, wide) -> tuple[dict, dict]:
    arrays = {name: _array(t) for name, t in numbers.items()}
    keys = batch.lengths if batch.key_lengths is None else batch.key_lengths
    arrays |= {
        "offsets": offsets(batch.lengths).tolist(),
        "key_offsets": offsets(keys).tolist(),
        "softcap": batch.softcap,
    }
    arrays |= {"left": batch.pattern[0], "right": batch.pattern[1]}
    arrays["scale"] = batch.widths[0] ** -0.5 if batch.scale is None else batch.scale
    return oracle.attend(arrays, wide)


def off(result: torch.Tensor, right: np.ndarray) -> np.ndarray:
    """How far the finite numbers are off, in the range that the dtype has; 0 at the others."""
    largest = torch.finfo(result.dtype).max
    with np.errstate(all="ignore"):
        error = abs(np.clip(_array(result), -largest, largest) - np.clip(right, -largest, largest))
    return np.where(np.isfinite(right) & (abs(right) < largest), error, 0)


def chosen(batch: Batch, numbers: dict) -> list[str | None]:
    """The backends that do not refuse; None, the door's own choice, in place of the first."""
    rows = Layout.of(offsets(batch.lengths))
    keys = rows if batch.key_lengths is None else Layout.of(offsets(batch.key_lengths))
    bias = None if numbers["bias"] is None else numbers["bias"].detach().requires_grad_(batch.learned)
    scale = 1.0 if batch.scale is None else float(batch.scale)
    request = Request(
        *(numbers[n] for n in "qkv"), rows, keys, Pattern(*batch.pattern), scale, 0.0, batch.softcap, bias
    )
    names = [name for name, backend in BACKENDS.items() if backend.refuses(request) is None]
    return [None, *names[1:]]


def check(batch: Batch) -> None:
    """Raises AssertionError where a backend, or the reference, is further from the oracle than the rule allows."""
    os.environ["SIGHTLINE_NATIVE"] = "1" if batch.native else "0"
    numbers, dtype = tensors(batch), DTYPES[batch.dtype]
    wide = np.longdouble if dtype == torch.float64 else np.float64
    right, sizes = truth(batch, numbers, wide)
    steps = float(np.nan_to_num(sizes.pop("steps"), posinf=0).max(initial=0))
    keys = 1 + max(batch.lengths if batch.key_lengths is None else batch.key_lengths, default=0)
    narrow = torch.float32 if dtype == torch.float64 else dtype
    reference = answer(batch, numbers, "reference")
    own = reference
    if dtype == torch.float64:
        own = answer(batch, numbers, "reference", narrow)
    for backend in chosen(batch, numbers):
        results = reference if backend == "reference" else answer(batch, numbers, backend)
        if backend == "reference" and steps > torch.finfo(dtype).max:
            continue  # its scores are at the end of what the dtype holds
        for name, t in results.items():
            if name == "dsink" and batch.sink == "none" and batch.wild is not None:
                continue  # NaN times the derivative by a sink of -inf, which is 0
            _compare(f"{backend}, {name}", t, right[name], sizes[name], own[name], steps, keys, dtype, narrow)


def _compare(what: str, result: torch.Tensor, right, size, own, steps: float, keys: int, dtype, narrow) -> None:
    array = _array(result)
    assert array.shape == right.shape, f"{what}: {array.shape} for {right.shape}"
    if not right.size:
        return
    finite = np.isfinite(right)
    largest = torch.finfo(result.dtype).max
    size = np.where(finite, np.where(np.isfinite(size), size, abs(right)), 0)
    # In range, and no less so are the terms by their last places.
    inside = finite & (abs(right) < largest) & (size * torch.finfo(dtype).eps < largest)
    assert np.isfinite(array[inside]).all(), (
        f"{what}: {int((~np.isfinite(array[inside])).sum())} numbers are not finite"
    )
    assert not np.isfinite(array[np.isnan(right)]).any(), f"{what}: finite where NaN is seen"
    if name_is(what, "lse"):
        assert (array[right == -np.inf] == -np.inf).all(), f"{what}: finite where nothing is seen"
    units = max(
        torch.finfo(result.dtype).eps,
        torch.finfo(torch.float32 if name_is(what, "lse") and dtype != torch.float64 else dtype).eps,
    )
    wide = torch.finfo(torch.promote_types(dtype, torch.float32)).eps
    worst = size.max()
    reference = np.nan_to_num(off(own, right), nan=0, posinf=0).max() * torch.finfo(dtype).eps / torch.finfo(narrow).eps
    tie_error = (
        0 if name_is(what, "lse") else min(ULPS * wide * steps, 2 * keys)
    )  # at most, one of equal keys takes all
    allowed = (
        2 * reference
        + (ULPS * (units + wide) + tie_error) * worst
        + ULPS * torch.finfo(result.dtype).smallest_normal * units
    )
    if name_is(what, "lse"):
        allowed += ULPS * wide * steps + (HALF_EXPONENTIAL if dtype.itemsize == 2 else 0)
    error = off(result, right).max()
    assert error <= allowed, f"{what}: error {error:.2e}, allowed {allowed:.2e} (own {reference:.2e})"


def name_is(what: str, name: str) -> bool:
    return what.endswith(" " + name)


def run(batches: int | None, seconds: float | None, first: int) -> dict:
    """Tries batches, each drawn from its number, until the count or the time is reached; stops at a failure."""
    start, number, failure = time.perf_counter(), first, None
    while failure is None and (batches is None or number < first + batches):
        if seconds is not None and time.perf_counter() - start > seconds:
            break
        batch = draw(random.Random(number).choice)
        try:
            check(batch)
        except KeyboardInterrupt:
            break
        except Exception as error:
            command = f"python -m tests.attention.fuzz --batches 1 --first {number}"
            failure = f"{command}  # {type(error).__name__}: {error}; {batch}"
        number += 1
    took = time.perf_counter() - start
    return {
        "batches": number - first,
        "failures": int(failure is not None),
        "first": first,
        "seconds": round(took, 1),
        "failure": failure,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Random batches of attention against a dense oracle.")
    parser.add_argument("--batches", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--first", type=int, default=0, help="the number of the first batch, which seeds it")
    options = parser.parse_args()
    torch.use_deterministic_algorithms(True)  # fills fresh memory with NaN
    result = run(options.batches, options.seconds, options.first)
    print(json.dumps(result | {"failure": None}), result["failure"] or "", sep="\n")
    return result["failures"]


if __name__ == "__main__":
    sys.exit(main())
