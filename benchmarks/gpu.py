"""Every check and every timing of this project that needs a GPU, in one run: first whether it is right, then how fast.

    python benchmarks/gpu.py

The checks are the table of cases on the GPU (`tests/attention`). The timings are of attention on packs against padded
SDPA, nested tensors and one call per sequence; of a training step of the self-attention encoder on a pack against
torch.nn.TransformerEncoder on the padded batch; and of Hugging Face models, forward and training step, against padded
batches under sdpa and eager, and packed ones under flash_attention_2 where it is installed. Lengths are drawn with a
seed, so no data are needed.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median

import finetuning
import torch
from side_by_side import agree, arguments, show, stop, summary, take_turns, write
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from sightline.attention import attention
from sightline.encoders import build
from sightline.sequences import Sequences

TESTS = Path(__file__).parent.parent / "tests" / "attention"
HEADS, WIDTH, LAYERS, VOCABULARY = 8, 64, 4, 1000
LIMITS = {torch.bfloat16: 2e-2, torch.float32: 1e-4}  # largest error over largest value, against float64


def mixes() -> dict[str, Tensor]:
    """Lengths [S] of one batch of each kind."""
    random = torch.Generator().manual_seed(0)

    def drawn(count: int, middle: float, spread: float, longest: int) -> Tensor:
        lengths = torch.empty(count).log_normal_(middle, spread, generator=random)
        return lengths.long().clamp(1, longest)

    return {
        "1,024 sentences": drawn(1024, 2.6, 0.8, 200),
        "64 documents": drawn(64, 5.5, 1.2, 2048),
        "32 rows of 512": torch.full((32,), 512),
        "1 row of 16,384": torch.full((1,), 16_384),
    }


# --- attention ------------------------------------------------------------------------------------------------------


def sides(lengths: Tensor, dtype: torch.dtype, device: str) -> dict[str, Callable[[], tuple[Tensor, ...]]]:
    """Each way as a call that gives out and the gradients of q, k and v, as rows; each has its input in its own layout."""
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    random = torch.Generator().manual_seed(1)
    rows = torch.randn(4, int(offsets[-1]), HEADS, WIDTH, generator=random).to(device, dtype)
    filled = torch.stack([Sequences(t, offsets).to_padded()[0] for t in rows])
    real = (torch.arange(int(lengths.max())) < lengths[:, None]).to(device)
    mask = None if bool(real.all()) else real[:, None, None]
    on_device, bounds = offsets.to(device), lengths.tolist()

    def packed(q, k, v):
        return attention(q, k, v, offsets).out

    def padded(q, k, v):
        return scaled_dot_product_attention(
            *(t.transpose(1, 2) for t in (q, k, v)), attn_mask=mask
        ).transpose(1, 2)

    def nested(q, k, v):
        jagged = (torch.nested.nested_tensor_from_jagged(t, on_device).transpose(1, 2) for t in (q, k, v))
        return scaled_dot_product_attention(*jagged).transpose(1, 2).values()

    def each(q, k, v):
        parts = zip(*(t.transpose(0, 1).split(bounds, 1) for t in (q, k, v)), strict=True)
        return torch.cat(
            [scaled_dot_product_attention(*(t[None] for t in part))[0] for part in parts], 1
        ).transpose(0, 1)

    def side(call: Callable[..., Tensor], tensors: Tensor) -> Callable[[], tuple[Tensor, ...]]:
        *inputs, grad = (t.clone().requires_grad_(i < 3) for i, t in enumerate(tensors))

        def both():
            out = call(*inputs)
            return out.detach(), *torch.autograd.grad(out, inputs, grad)

        return both

    ways = {"sightline": side(packed, rows), "padded": side(padded, filled)}
    ways |= {"nested": side(nested, rows), "each": side(each, rows)}
    _check(offsets, rows, real, ways, dtype)
    return ways


def _check(offsets: Tensor, rows: Tensor, real: Tensor, ways: dict, dtype: torch.dtype) -> None:
    """Stops where a way does not give what blockwise attention in float64 gives."""
    q, k, v = (t.double().requires_grad_() for t in rows[:3])
    out = attention(q, k, v, offsets, backend="blockwise").out
    right = (out.detach(), *torch.autograd.grad(out, (q, k, v), rows[3].double()))
    for name, way in ways.items():
        for what, got, wanted in zip("out dq dk dv".split(), way(), right, strict=True):
            got = got[real] if name == "padded" else got
            error = float((got - wanted).abs().max() / wanted.abs().max())
            agree(f"attention on a GPU, {name}, {what} in {dtype}", error, LIMITS[dtype])


# --- training -------------------------------------------------------------------------------------------------------


def steps(lengths: Tensor, device: str) -> dict[str, Callable[[], None]]:
    """One training step in bfloat16, on the pack and on the padded batch; both models have the same sizes."""
    torch.manual_seed(0)
    width, tokens = HEADS * WIDTH, int(lengths.sum())
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    pack = Sequences(torch.randint(VOCABULARY, (tokens,)), offsets)
    encoder = build("self-attention", vocabulary=VOCABULARY, width=width, layers=LAYERS, heads=HEADS)
    with torch.no_grad():
        here = encoder(pack[:4]).values
        error = float((encoder.to(device)(pack[:4].to(device)).values.cpu() - here).abs().max())
        agree("the encoder on a GPU in float32, against the CPU", error, 1e-3)
    layer = nn.TransformerEncoderLayer(
        width, HEADS, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
    )
    stack = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(width), enable_nested_tensor=False)
    rival = nn.ModuleList([nn.Embedding(VOCABULARY, width), stack]).to(device)
    pack, (ids, _) = pack.to(device), pack.to(device).to_padded()
    real = (torch.arange(ids.shape[1]) < lengths[:, None]).to(device)

    def step(model: nn.Module, encodings: Callable[[], Tensor]) -> Callable[[], None]:
        optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)

        def one():
            with torch.autocast(device, torch.bfloat16):
                loss = encodings().float().square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return one

    return {
        "sightline": step(encoder, lambda: encoder(pack).values),
        "padded": step(rival, lambda: rival[1](rival[0](ids), src_key_padding_mask=~real)[real]),
    }


# --- all of it ------------------------------------------------------------------------------------------------------


def timed(what: str, mix: str, lengths: Tensor, ways: dict[str, Callable], repeats: int, device: str) -> dict:
    def finished(way: Callable) -> Callable[[], None]:
        def call():
            way()
            if device == "cuda":
                torch.cuda.synchronize()

        return call

    turns = take_turns({name: finished(way) for name, way in ways.items()}, repeats)
    ours = median(turns["sightline"])
    return {
        "what": what,
        "mix": mix,
        "tokens": int(lengths.sum()),
        "milliseconds": {name: summary([1000 * s for s in each]) for name, each in turns.items()},
        "times_ours": {name: median(each) / ours for name, each in turns.items()},
    }


def measured(repeats: int, device: str, batches: dict[str, Tensor]) -> list[dict]:
    rows = []
    for mix, lengths in batches.items():
        for dtype in LIMITS:
            what = f"attention, forward and backward, {str(dtype).removeprefix('torch.')}"
            rows.append(timed(what, mix, lengths, sides(lengths, dtype, device), repeats, device))
        rows.append(timed("training step, bfloat16", mix, lengths, steps(lengths, device), repeats, device))
        if int(lengths.min()) < int(lengths.max()):  # else nothing is padded
            ways = finetuning.forwards(lengths, device)
            rows.append(timed("Hugging Face encoder, bfloat16", mix, lengths, ways, repeats, device))
            ways, _ = finetuning.steps([lengths], device)
            rows.append(timed("Hugging Face training step", mix, lengths, ways, repeats, device))
    return rows


def main() -> None:
    given = arguments(__doc__.split("\n")[0], repeats=20).parse_args()
    if not torch.cuda.is_available():
        stop("gpu: expected an NVIDIA GPU that PyTorch can use, got none; run it on a machine that has one")
    warnings.filterwarnings("ignore", message=".*nested tensors is in prototype stage.*")
    checked = subprocess.run([sys.executable, "-m", "pytest", str(TESTS), "-k", "cuda or gpu"], check=False)
    if checked.returncode:
        stop(
            "gpu: expected the table of cases to pass on this GPU, got the failures above; no speed is printed"
        )
    rows = measured(given.repeats, "cuda", mixes())
    show(
        f"{torch.cuda.get_device_name()}: milliseconds of ours, and how many times that others take",
        ["", "mix", "tokens", "ours, ms", "padded", "nested", "one call each", "eager", "flash-attn 2"],
        [
            [
                row["what"],
                row["mix"],
                f"{row['tokens']:,}",
                f"{row['milliseconds']['sightline']['median']:.2f}",
                *(
                    f"{row['times_ours'][n]:.2f}x" if n in row["times_ours"] else ""
                    for n in ("padded", "nested", "each", "eager", "flash_attention_2")
                ),
            ]
            for row in rows
        ],
    )
    gpu = {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda, "repeats": given.repeats}
    write(given.results, "gpu", {**gpu, "heads": HEADS, "width": WIDTH, "layers": LAYERS, "rows": rows})


if __name__ == "__main__":
    main()
