"""Says what ragged attention saves: ours against padding, nested tensors and one call per sequence, on real lengths.

    python benchmarks/attention.py

Every side gets its input in its own layout, so neither padding nor unpadding is timed: only attention, forward, and
forward with backward. Padding is SDPA on [S, H, L, D] with a boolean mask over keys; nested is SDPA on a nested tensor
of layout jagged; each is SDPA on one sequence after the other. Uniform rows need no mask: padding is then dense SDPA.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from statistics import median

import torch
from side_by_side import against, agree, arguments, ewt, show, summary, take_turns, write
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from sightline.attention import attention
from sightline.sequences import Sequences
from sightline.tasks import scope

HEADS, WIDTH = 4, 32
LIMITS = {torch.float32: 1e-5, torch.bfloat16: 2e-2}  # largest error over largest value, against float64
TARGETS = {  # how many times faster than padded and than one call per sequence
    "EWT, 256 sentences, sorted": (5.0, 2.0),
    "scope, 64 functions, sorted": (15.0, 2.0),
    "EWT, 32 sentences, as drawn": (1.5, 2.0),
    "8 rows of 512": (0.95, None),
}


def mixes(ewt_lengths: Tensor, scope_lengths: Tensor, batches: int) -> dict[str, list[Tensor]]:
    """For each mix, the lengths of some batches, drawn with a seed."""
    random = torch.Generator().manual_seed(0)

    def draw(lengths: Tensor, count: int) -> Tensor:
        return lengths[torch.randperm(len(lengths), generator=random)[:count]]

    packs = [
        [draw(ewt_lengths, 256).sort().values for _ in range(batches)],
        [draw(scope_lengths, 64).sort().values for _ in range(batches)],
        [draw(ewt_lengths, 32) for _ in range(batches)],
        [torch.full((8,), 512)] * batches,
    ]
    return dict(zip(TARGETS, packs, strict=True))


class Side:
    """One way to compute attention: its inputs in its own layout, and how to get its rows back to be compared."""

    def __init__(
        self, inputs: list[Tensor], grad: Tensor, call: Callable[..., Tensor], rows: Callable[[Tensor], Tensor]
    ):
        self.inputs = [t.detach().clone().requires_grad_() for t in inputs]
        self.grad = grad.clone()  # of its own storage: else the gradient of nested tensors is silently wrong
        self.call, self.rows = call, rows

    def forward(self) -> Tensor:
        with torch.no_grad():
            return self.call(*self.inputs)

    def both(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        out = self.call(*self.inputs)
        return out, torch.autograd.grad(out, self.inputs, self.grad)


def sides(lengths: Tensor, dtype: torch.dtype) -> dict[str, Side]:
    """All ways for one batch; the first is the definition in float64, which is never timed."""
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    random = torch.Generator().manual_seed(1)
    q, k, v, grad = torch.randn(4, int(offsets[-1]), HEADS, WIDTH, generator=random).to(dtype)

    def padded(t: Tensor) -> Tensor:
        return Sequences(t, offsets).to_padded()[0]

    def unpadded(t: Tensor) -> Tensor:
        return Sequences.from_padded(t, lengths).values

    uniform = int(lengths.min()) == int(lengths.max())
    mask = None if uniform else (torch.arange(int(lengths.max())) < lengths[:, None])[:, None, None]
    bounds = lengths.tolist()

    def dense(q, k, v):
        heads_first = (t.transpose(1, 2) for t in (q, k, v))
        return scaled_dot_product_attention(*heads_first, attn_mask=mask).transpose(1, 2)

    def nested(q, k, v):
        jagged = (torch.nested.nested_tensor_from_jagged(t, offsets).transpose(1, 2) for t in (q, k, v))
        return scaled_dot_product_attention(*jagged).transpose(1, 2).values()

    def each(q, k, v):
        parts = zip(*(t.transpose(0, 1)[None].split(bounds, 2) for t in (q, k, v)), strict=True)
        return torch.cat([scaled_dot_product_attention(*part) for part in parts], 2)[0].transpose(0, 1)

    def same(rows):
        return rows

    wide = [t.double() for t in (q, k, v)]
    return {
        "definition": Side(wide, grad.double(), lambda *t: attention(*t, offsets, backend="reference").out, same),
        "sightline": Side([q, k, v], grad, lambda *t: attention(*t, offsets).out, same),
        "padded": Side([padded(t) for t in (q, k, v)], padded(grad), dense, unpadded),
        "nested": Side([q, k, v], grad, nested, same),
        "each": Side([q, k, v], grad, each, same),
    }


def check(mix: str, all_sides: dict[str, Side], dtype: torch.dtype) -> float:
    """The largest error of any side, in its output and in the gradients of q, k and v; stops where it is too large."""
    right, right_grads = all_sides["definition"].both()
    right = right.detach()
    worst = 0.0
    for name, side in all_sides.items():
        out, grads = side.both()
        for what, value, expected in zip("out dq dk dv".split(), (out, *grads), (right, *right_grads), strict=True):
            error = float((side.rows(value.detach()) - expected).abs().max() / expected.abs().max())
            worst = max(worst, agree(f"{mix}, {name}, {what} in {dtype}", error, LIMITS[dtype]))
    return worst


def measure(mix: str, batches: list[Tensor], dtype: torch.dtype, repeats: int) -> list[dict]:
    """Two rows, forward and forward with backward: the milliseconds of each side, and how many times ours they take."""
    seconds: dict[str, dict[str, list[float]]] = {"forward": {}, "forward and backward": {}}
    ratios: dict[str, dict[str, list[float]]] = {"forward": {}, "forward and backward": {}}
    worst = 0.0
    for lengths in batches:
        all_sides = sides(lengths, dtype)
        worst = max(worst, check(mix, all_sides, dtype))
        del all_sides["definition"]
        for task, method in (("forward", "forward"), ("forward and backward", "both")):
            turns = take_turns({name: getattr(side, method) for name, side in all_sides.items()}, repeats)
            ours = median(turns["sightline"])
            for name, each in turns.items():
                seconds[task].setdefault(name, []).append(median(each))
                ratios[task].setdefault(name, []).append(median(each) / ours)
    shape = {"mix": mix, "sequences": len(batches[0]), "tokens": [int(b.sum()) for b in batches], "dtype": str(dtype)}
    return [
        {
            **shape,
            "task": task,
            "error": worst,
            "milliseconds": {name: summary([1000 * s for s in each]) for name, each in seconds[task].items()},
            "times_ours": {name: summary(each) for name, each in ratios[task].items()},
            "targets": dict(zip(("padded", "each"), TARGETS[mix], strict=True)),
        }
        for task in seconds
    ]


def main() -> None:
    parser = arguments(__doc__.split("\n")[0], repeats=9, smoke={"batches": 1})
    parser.add_argument("--batches", type=int, default=5, help="batches of each mix")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*nested tensors is in prototype stage.*")
    logging.getLogger("torch.fx").setLevel(logging.ERROR)
    lengths = ewt(options.data).train.lengths, scope.load()["train"].lengths
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        for mix, batches in mixes(*lengths, options.batches).items():
            batches = [lengths[::8] for lengths in batches] if options.smoke else batches
            rows += measure(mix, batches, dtype, options.repeats)
        show(
            f"attention, {HEADS} heads of width {WIDTH}, {dtype}: milliseconds of ours, and how many times that "
            f"others take (medians of {options.batches} batches); targets are for float32",
            ["mix", "", "tokens", "ours, ms", "padded", "nested", "one call each", "error"],
            [
                [
                    row["mix"],
                    row["task"].replace("forward and backward", "+ backward"),
                    round(median(row["tokens"])),
                    f"{row['milliseconds']['sightline']['median']:.2f}",
                    *(
                        against(
                            row["times_ours"][name]["median"],
                            row["targets"].get(name) if dtype == torch.float32 else None,
                        )
                        for name in ("padded", "nested", "each")
                    ),
                    f"{row['error']:.0e}",
                ]
                for row in rows
                if row["dtype"] == str(dtype)
            ],
        )
    write(options.results, "attention", {"heads": HEADS, "width": WIDTH, "repeats": options.repeats, "rows": rows})


if __name__ == "__main__":
    main()
