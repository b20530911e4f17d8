"""Trains on tiny Shakespeare by characters, on the CPU: whether loss and speed are those of nanoGPT.

    python benchmarks/nanogpt.py --nanogpt PATH      PATH: a checkout of github.com/karpathy/nanoGPT, timed beside ours

The settings are those of nanoGPT's README for a CPU: 4 layers, 4 heads, width 128, 64 characters at once, 12 such rows,
2000 iterations, no dropout, AdamW with rate 1e-3. Batches and schedule are those of its train.py, the same for both
sides, which take turns of 50 iterations; the model, clipping and AdamW are each side's own, ours from the library, the
other as in train.py. nanoGPT's estimate is the best of some means over 20 random batches of validation text; beside it
stands the loss over all of that text. A check comes first: both sides mean the same by a loss, and neither sees a
character before it predicts it. Without --nanogpt ours is trained alone.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import torch
from side_by_side import agree, arguments, needed, show, timed, write
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sightline.encoders import Readout, build
from sightline.sequences import Sequences
from sightline.training.loop import Gradients

WIDTH, LAYERS, HEADS = 128, 4, 4
ROWS, BLOCK, WARMUP = 12, 64, 100
RATE, LEAST_RATE, DECAY, BETAS, CLIP = 1e-3, 1e-4, 0.1, (0.9, 0.99), 1.0
EVALUATE_EVERY, EVALUATE_ON, TURN = 250, 20, 50
TARGET = 1.88


class Side:
    """A model, its scores [rows, L, V], its loss and what it does with a gradient at a rate, in nanoGPT's loop."""

    def __init__(
        self,
        model: nn.Module,
        scores: Callable[[Tensor], Tensor],
        loss: Callable[[Tensor, Tensor], Tensor],
        update: Callable[[float], None],
        train: Tensor,
        valid: Tensor,
    ):
        self.model, self.scores, self.loss, self.update = model, scores, loss, update
        self.train, self.valid = train, valid
        self.batches, self.looks = (torch.Generator().manual_seed(seed) for seed in (1337, 1338))
        self.iteration, self.seconds, self.estimates = 0, 0.0, []

    def turn(self, count: int, iterations: int) -> None:
        began = perf_counter()
        with timed():
            for _ in range(count):
                self.loss(*draw(self.train, self.batches)).backward()
                self.update(rate_at(self.iteration, iterations))
                self.iteration += 1
        self.seconds += perf_counter() - began

    @torch.no_grad()
    def estimate(self) -> None:
        """nanoGPT's estimate: the mean over some random batches of validation text."""
        losses = [float(self.loss(*draw(self.valid, self.looks))) for _ in range(EVALUATE_ON)]
        estimate = sum(losses) / len(losses)
        self.estimates.append({"iteration": self.iteration, "seconds": self.seconds, "loss": estimate})

    @torch.no_grad()
    def whole(self) -> float:
        """The loss over all validation text in blocks: each character once, from those before it in its block."""
        count = (len(self.valid) - 1) // BLOCK
        x, y = (self.valid[shift:][: count * BLOCK].view(count, BLOCK) for shift in (0, 1))
        parts = zip(x.split(256), y.split(256), strict=True)
        return sum(float(self.loss(a, b)) * len(a) for a, b in parts) / count


def draw(text: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random rows [ROWS, BLOCK] of a text, and the characters that follow."""
    starts = torch.randint(len(text) - BLOCK, (ROWS,), generator=random)
    rows = text[starts[:, None] + torch.arange(BLOCK + 1)]
    return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()


def rate_at(iteration: int, iterations: int) -> float:
    if iteration < WARMUP:
        return RATE * (iteration + 1) / (WARMUP + 1)
    done = (iteration - WARMUP) / (iterations - WARMUP)
    return LEAST_RATE + 0.5 * (1 + math.cos(math.pi * done)) * (RATE - LEAST_RATE)


def ours(vocabulary: int, train: Tensor, valid: Tensor) -> Side:
    torch.manual_seed(1337)
    encoder = build("self-attention", vocabulary=vocabulary, width=WIDTH, layers=LAYERS, heads=HEADS, causal=True)
    model = nn.Sequential(encoder, Readout(WIDTH, vocabulary))

    def scores(x: Tensor) -> Tensor:
        return model(Sequences(x.flatten(), torch.arange(0, x.numel() + 1, x.shape[1]))).view(*x.shape, -1)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(scores(x).flatten(0, 1), y.flatten())

    matrices, others = ([p for p in model.parameters() if (p.dim() > 1) == is_matrix] for is_matrix in (True, False))
    groups = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, RATE, BETAS, weight_decay=DECAY, fused=True)
    gradients = Gradients(model, torch.device("cpu")).flat  # all of them, side by side in one tensor

    def update(rate: float) -> None:
        gradients.mul_((CLIP / (gradients.norm() + 1e-6)).clamp(max=1))
        step(optimizer, rate)
        gradients.zero_()

    return Side(model, scores, loss, update, train, valid)


def theirs(path: Path, vocabulary: int, train: Tensor, valid: Tensor) -> Side:
    """nanoGPT's own model and optimizer, from its model.py."""
    spec = importlib.util.spec_from_file_location(
        "nanogpt_model", needed(path / "model.py", "its folder with --nanogpt")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(1337)
    sizes = {"block_size": BLOCK, "vocab_size": vocabulary, "n_layer": LAYERS, "n_head": HEADS, "n_embd": WIDTH}
    model = module.GPT(module.GPTConfig(**sizes, dropout=0.0, bias=False))
    optimizer = model.configure_optimizers(DECAY, RATE, BETAS, "cpu")

    def update(rate: float) -> None:
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        step(optimizer, rate)
        optimizer.zero_grad(set_to_none=True)

    return Side(model, lambda x: model(x, x)[0], lambda x, y: model(x, y)[1], update, train, valid)


def step(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()


@torch.no_grad()
def check(name: str, side: Side) -> None:
    """The loss is the cross-entropy of the scores; a row's second half does not change the scores of the first."""
    rows = side.valid[: 2 * BLOCK].view(2, BLOCK).clone()
    changed = rows.clone()
    changed[:, BLOCK // 2 :] = rows.flip(0)[:, BLOCK // 2 :]
    before, after = (side.scores(each) for each in (rows, changed))
    agree(f"{name}, later characters seen", float((before - after)[:, : BLOCK // 2].abs().max()), 1e-6)
    right = -before.double().log_softmax(-1).gather(-1, changed[..., None]).mean()
    agree(f"{name}, loss", abs(float(side.loss(rows, changed) - right)), 1e-5)


def trained(sides: dict[str, Side], iterations: int) -> None:
    """All iterations of each side, in turns; estimates now and then, and at the end."""
    for iteration in range(TURN, iterations + TURN, TURN):
        iteration = min(iteration, iterations)
        for side in sides.values():
            side.turn(iteration - side.iteration, iterations)
        if iteration % EVALUATE_EVERY == 0 or iteration == iterations:
            for side in sides.values():
                side.estimate()
            losses = (f"{n} {s.estimates[-1]['loss']:.4f} at {s.seconds:.1f} s" for n, s in sides.items())
            print(f"iteration {iteration}:", ", ".join(losses), flush=True)


def main() -> None:
    parser = arguments(__doc__.split("\n")[0], smoke={"iterations": 3})
    parser.add_argument("--iterations", type=int, default=2000, help="steps of training")
    parser.add_argument("--nanogpt", type=Path, help="a checkout of nanoGPT, to be trained in turns with ours")
    options = parser.parse_args()
    text = needed(options.data / "tinyshakespeare" / "input.txt").read_text("utf-8")
    ids = {symbol: i for i, symbol in enumerate(sorted(set(text)))}
    at = int(0.9 * len(text))
    train, valid = (torch.tensor([ids[c] for c in part]) for part in (text[:at], text[at:]))
    sides = {"sightline": ours(len(ids), train, valid)}
    if options.nanogpt:
        sides["nanoGPT"] = theirs(options.nanogpt, len(ids), train, valid)
    else:
        print("nanoGPT is left out; name a checkout with --nanogpt")
    for name, side in sides.items():
        check(name, side)
    trained(sides, options.iterations)
    rows = [
        {
            "side": name,
            "parameters": sum(p.numel() for p in side.model.parameters()),
            "seconds": side.seconds,
            "estimates": side.estimates,
            "best_estimate": min(estimate["loss"] for estimate in side.estimates),
            "whole_validation": side.whole(),
            "seconds_to_target": next((e["seconds"] for e in side.estimates if e["loss"] <= TARGET), None),
        }
        for name, side in sides.items()
    ]
    show(
        f"tiny Shakespeare, {options.iterations} iterations of {ROWS} x {BLOCK} characters; "
        f"nats per character (aim: {TARGET} at most)",
        ["", "parameters", "seconds", f"seconds to {TARGET}", "nanoGPT's estimate", "all validation text"],
        [
            [
                row["side"],
                f"{row['parameters']:,}",
                f"{row['seconds']:.1f}",
                "never" if row["seconds_to_target"] is None else f"{row['seconds_to_target']:.1f}",
                f"{row['best_estimate']:.4f} {'≤' if row['best_estimate'] <= TARGET else '> (!)'} {TARGET}",
                f"{row['whole_validation']:.4f}",
            ]
            for row in rows
        ],
    )
    if options.nanogpt:
        share = rows[0]["seconds"] / rows[1]["seconds"]
        print(f"ours took {share:.2f} of nanoGPT's time ({'≤' if share <= 1 else '> (!)'} 1)")
    write(options.results, "nanogpt", {"target": TARGET, "iterations": options.iterations, "rows": rows})


if __name__ == "__main__":
    main()
