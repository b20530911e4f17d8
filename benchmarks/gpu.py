"""Every check and every timing of this project that needs a GPU, in one run: first whether it is right, then how fast.

    python benchmarks/gpu.py

The checks are the tables of cases on the GPU, of attention and of what is seen of it (`tests/attention`,
`tests/observe`). The timings are:

- attention on packs against padded SDPA, nested tensors and one call per sequence;
- a training step of the self-attention encoder on a pack against torch.nn.TransformerEncoder on the padded batch;
- Hugging Face models, forward and training step, against padded batches under sdpa and eager, and packed ones under
  flash_attention_2 where it is installed;
- watched attention, all statistics of all heads, against the fastest that is not watched;
- a million tokens of one head, watched in one pass, with the memory that takes.

Lengths are drawn with a seed, so no data are needed. With --smoke, and without a GPU, small batches of each kind go
through all sides on the CPU, but for the kernels' tiles, and the tables are left out.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter

import finetuning
import torch
from side_by_side import agree, arguments, show, stop, summary, take_turns, write
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from sightline.attention import CAUSAL, FULL, Pattern, attention
from sightline.encoders import build
from sightline.observe.calls import Call
from sightline.observe.statistics import Statistics, statistics
from sightline.sequences import Sequences

TESTS = Path(__file__).parent.parent / "tests"
TABLES = [str(TESTS / "attention"), str(TESTS / "observe" / "test_triton.py"), "-k", "cuda or gpu or triton"]
HEADS, WIDTH, LAYERS, VOCABULARY, LINKS = 8, 64, 4, 1000, 8
WATCHED, LONG = (4096, 8192, 32_768), 1_000_000  # tokens
OTHER_TILES = (
    (128, 64, 256, 8, 2),
    (128, 64, 256, 4, 2),
    (64, 32, 256, 4, 3),
    (64, 64, 256, 4, 3),
    (64, 64, 256, 8, 3),
)
TARGET = 1.3  # times the fastest forward that is not watched
LIMITS = {torch.bfloat16: 2e-2, torch.float32: 1e-4}  # largest error over largest value, against float64


def mixes(smoke: bool) -> dict[str, Tensor]:
    """Lengths [S] of one batch of each kind; with `smoke` of two, and short."""
    random = torch.Generator().manual_seed(0)

    def drawn(count: int, middle: float, spread: float, longest: int) -> Tensor:
        lengths = torch.empty(count).log_normal_(middle, spread, generator=random)
        return lengths.long().clamp(1, longest)

    if smoke:
        return {"7 sentences": drawn(7, 2.0, 0.5, 20), "2 rows of 16": torch.full((2,), 16)}
    return {
        "1,024 sentences": drawn(1024, 2.6, 0.8, 200),
        "64 documents": drawn(64, 5.5, 1.2, 2048),
        "32 rows of 512": torch.full((32,), 512),
        "1 row of 16,384": torch.full((1,), 16_384),
    }


# --- attention ------------------------------------------------------------------------------------------------------


def sides(lengths: Tensor, dtype: torch.dtype, device: str) -> dict[str, Callable[[], tuple[Tensor, ...]]]:
    """Each side as a call that gives out and the gradients of q, k and v, as rows; its input is in its own layout."""
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
        return scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v)), attn_mask=mask).transpose(1, 2)

    def nested(q, k, v):
        jagged = (torch.nested.nested_tensor_from_jagged(t, on_device).transpose(1, 2) for t in (q, k, v))
        return scaled_dot_product_attention(*jagged).transpose(1, 2).values()

    def each(q, k, v):
        parts = zip(*(t.transpose(0, 1).split(bounds, 1) for t in (q, k, v)), strict=True)
        return torch.cat([scaled_dot_product_attention(*(t[None] for t in part))[0] for part in parts], 1).transpose(
            0, 1
        )

    def side(call: Callable[..., Tensor], tensors: Tensor) -> Callable[[], tuple[Tensor, ...]]:
        *inputs, grad = (t.clone().requires_grad_(i < 3) for i, t in enumerate(tensors))

        def both():
            out = call(*inputs)
            return out.detach(), *torch.autograd.grad(out, inputs, grad)

        return both

    calls = {"sightline": side(packed, rows), "padded": side(padded, filled)}
    calls |= {"nested": side(nested, rows), "each": side(each, rows)}
    _check(offsets, rows, real, calls, dtype)
    return calls


def _check(offsets: Tensor, rows: Tensor, real: Tensor, calls: dict, dtype: torch.dtype) -> None:
    """Stops where a side does not give what blockwise attention in float64 gives."""
    q, k, v = (t.double().requires_grad_() for t in rows[:3])
    out = attention(q, k, v, offsets, backend="blockwise").out
    right = (out.detach(), *torch.autograd.grad(out, (q, k, v), rows[3].double()))
    for name, compute in calls.items():
        for what, value, expected in zip("out dq dk dv".split(), compute(), right, strict=True):
            value = value[real] if name == "padded" else value
            error = float((value - expected).abs().max() / expected.abs().max())
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
    layer = nn.TransformerEncoderLayer(width, HEADS, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
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


# --- watching -------------------------------------------------------------------------------------------------------


def call_of(q: Tensor, k: Tensor, lse: Tensor, pattern: Pattern) -> Call:
    offsets, heads = torch.tensor([0, len(q)]), torch.arange(q.shape[1], device=q.device)
    return Call(q, k, lse, offsets, offsets, pattern, WIDTH**-0.5, heads)


def forwards(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern) -> dict[str, Callable[[], object]]:
    """Attention over one sequence in every way there is; the watched one is ours with all statistics after it."""
    offsets = torch.tensor([0, len(q)])
    one = [t.transpose(0, 1)[None] for t in (q, k, v)]

    def watched() -> Statistics:
        lse = attention(q, k, v, offsets, pattern).lse
        return statistics(call_of(q, k, lse, pattern), LINKS)

    def sdpa(kernel: SDPBackend) -> Callable[[], Tensor]:
        def call() -> Tensor:
            with sdpa_kernel(kernel):
                return scaled_dot_product_attention(*one, is_causal=pattern == CAUSAL)

        return call

    calls = {"sightline": lambda: attention(q, k, v, offsets, pattern), "watched": watched}
    for name, kernel in (("flash", SDPBackend.FLASH_ATTENTION), ("cudnn", SDPBackend.CUDNN_ATTENTION)):
        try:
            sdpa(kernel)()
        except RuntimeError as error:  # not for this device
            print(f"watching: {name} is left out: {error}", file=sys.stderr)
        else:
            calls[name] = sdpa(kernel)
    return calls


def seen_right(result: Statistics, call: Call) -> None:
    """Stops where statistics are not those that PyTorch's passes make of the same numbers in float64."""
    exact = replace(call, **{name: getattr(call, name).double() for name in ("q", "k", "lse")})
    right = statistics(exact, LINKS)
    for name in ("entropy", "distance", "received", "first", "histogram", "weights"):
        value, expected = getattr(result, name).double(), getattr(right, name).double()
        error = float((value - expected).abs().max() / expected.abs().max().clamp_min(1))
        agree(f"watching {len(call.q):,} tokens on a GPU, {name}", error, 1e-4)


@torch.no_grad()
def watching(repeats: int, device: str, lengths: tuple[int, ...]) -> list[dict]:
    rows = []
    for n in lengths:
        for name, pattern in (("full", FULL), ("causal", CAUSAL)):
            random = torch.Generator().manual_seed(2)
            q, k, v = torch.randn(3, n, HEADS, WIDTH, generator=random).to(device, torch.bfloat16)
            lse = attention(q, k, v, torch.tensor([0, n]), pattern).lse
            call = call_of(q, k, lse, pattern)
            seen_right(statistics(call, LINKS), call)
            row = timed("watching", name, torch.tensor([n]), forwards(q, k, v, pattern), repeats)
            middle = {side: value["median"] for side, value in row["milliseconds"].items()}
            fastest = min(value for side, value in middle.items() if side != "watched")
            rows.append({**row, "watched, of the fastest": middle["watched"] / fastest})
    return rows


@torch.no_grad()
def tiles(repeats: int, device: str, n: int) -> dict[str, float]:
    """Milliseconds of statistics alone, by the kernels' tiles: the source of the numbers in `triton_statistics.py`."""
    from sightline.kernels import triton_statistics

    random = torch.Generator().manual_seed(4)
    q, k = torch.randn(2, n, HEADS, WIDTH, generator=random).to(device, torch.bfloat16)
    call = call_of(q, k, attention(q, k, k, torch.tensor([0, n]), FULL).lse, FULL)

    def side(chosen: triton_statistics.Tiles) -> Callable[[], None]:
        def compute() -> None:
            kept = triton_statistics.TILES[2]
            try:
                triton_statistics.TILES[2] = chosen
                return statistics(call, LINKS)
            finally:
                triton_statistics.TILES[2] = kept

        return compute

    sizes = (triton_statistics.TILES[2], *(triton_statistics.Tiles(*size) for size in OTHER_TILES))
    calls = {", ".join(f"{name} {value}" for name, value in t._asdict().items()): side(t) for t in sizes}
    for compute in calls.values():
        seen_right(compute(), call)
    first, *_ = calls
    row = timed("tiles", "full", torch.tensor([n]), {"sightline": calls[first], **calls}, repeats)
    return {name: row["milliseconds"][name]["median"] for name in calls}


@torch.no_grad()
def one_pass(n: int, device: str) -> dict[str, float]:
    """Statistics of one causal head of n tokens: milliseconds, and the most bytes beyond queries, keys and lse."""
    random = torch.Generator().manual_seed(3)
    q, k = torch.randn(2, n, 1, WIDTH, generator=random).to(device, torch.bfloat16)
    call = call_of(q, k, attention(q, k, k, torch.tensor([0, n]), CAUSAL).lse, CAUSAL)
    statistics(call_of(q[:64], k[:64], call.lse[:64], CAUSAL), LINKS)  # compiles the kernels
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    began = perf_counter()
    result = statistics(call, LINKS)
    for name in ("received", "histogram"):
        agree(f"a pass over {n:,} tokens, {name}", abs(float(getattr(result, name).double().sum()) / n - 1), 1e-4)
    milliseconds = 1000 * (perf_counter() - began)
    for i in torch.randint(n, (8,), generator=random).tolist():
        weights = (k[: i + 1, 0].double() @ q[i, 0].double() * WIDTH**-0.5 - call.lse[i].double()).exp()
        for value, expected in (
            (result.entropy[i], -weights.xlogy(weights).sum()),
            (result.weights[i, 0], weights.topk(min(LINKS, i + 1)).values),
        ):
            error = float((value[: expected.numel()] - expected).abs().max() / expected.abs().max())
            agree(f"a pass over {n:,} tokens, query {i}", error, 1e-4)
    most = torch.cuda.max_memory_allocated() - before if device == "cuda" else 0
    return {"tokens": n, "milliseconds": milliseconds, "bytes": most}


# --- all of it ------------------------------------------------------------------------------------------------------


def timed(what: str, mix: str, lengths: Tensor, calls: dict[str, Callable], repeats: int) -> dict:
    turns = take_turns(calls, repeats)
    ours = median(turns["sightline"])
    return {
        "what": what,
        "mix": mix,
        "tokens": int(lengths.sum()),
        "milliseconds": {name: summary([1000 * s for s in each]) for name, each in turns.items()},
        "times_ours": {name: median(each) / ours for name, each in turns.items()},
    }


def measured(
    repeats: int, device: str, batches: dict[str, Tensor], sizes: dict[str, int] = finetuning.SMALL
) -> list[dict]:
    rows = []
    for mix, lengths in batches.items():
        for dtype in LIMITS:
            what = f"attention, forward and backward, {str(dtype).removeprefix('torch.')}"
            rows.append(timed(what, mix, lengths, sides(lengths, dtype, device), repeats))
        rows.append(timed("training step, bfloat16", mix, lengths, steps(lengths, device), repeats))
        if int(lengths.min()) < int(lengths.max()):  # else nothing is padded
            calls = finetuning.forwards(lengths, device)
            rows.append(timed("Hugging Face encoder, bfloat16", mix, lengths, calls, repeats))
            calls, _ = finetuning.steps([lengths], device, sizes)
            rows.append(timed("Hugging Face training step", mix, lengths, calls, repeats))
    return rows


def smoke(device: str) -> None:
    """All sides of all comparisons once, on small batches; those that differ end it."""
    rows = measured(1, device, mixes(smoke=True), finetuning.TINY)
    rows += watching(1, device, (64,))
    one_pass(300, device)
    if device == "cuda":
        tiles(1, device, 256)
    else:
        print("gpu: no NVIDIA GPU here, so the CPU computes all sides; the kernels' tiles are left out")
    write(None, "gpu", {"rows": rows})


def main() -> None:
    options = arguments(__doc__.split("\n")[0], repeats=20).parse_args()
    warnings.filterwarnings("ignore", message=".*nested tensors is in prototype stage.*")
    if options.smoke:
        return smoke("cuda" if torch.cuda.is_available() else "cpu")
    if not torch.cuda.is_available():
        stop("gpu: expected an NVIDIA GPU that PyTorch can use, got none; run it on a machine that has one")
    checked = subprocess.run([sys.executable, "-m", "pytest", *TABLES], check=False)
    if checked.returncode:
        stop("gpu: expected the tables of cases to pass on this GPU, got the failures above; no speed is printed")
    rows = measured(options.repeats, "cuda", mixes(smoke=False))
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
    seen, pass_ = watching(options.repeats, "cuda", WATCHED), one_pass(LONG, "cuda")
    show(
        f"attention watched, {HEADS} heads of width {WIDTH}, bfloat16: milliseconds, "
        f"and times the fastest that is not watched",
        ["", "tokens", "watched", "sightline", "flash", "cudnn", "watched, of the fastest"],
        [
            [
                row["mix"],
                f"{row['tokens']:,}",
                *(
                    f"{row['milliseconds'][n]['median']:.2f}" if n in row["milliseconds"] else ""
                    for n in ("watched", "sightline", "flash", "cudnn")
                ),
                f"{row['watched, of the fastest']:.2f}x (aim at most {TARGET})",
            ]
            for row in seen
        ],
    )
    by_tiles = tiles(options.repeats, "cuda", WATCHED[1])
    show(
        f"statistics alone, {WATCHED[1]:,} tokens, full",
        ["tiles", "ms"],
        [[t, f"{ms:.2f}"] for t, ms in by_tiles.items()],
    )
    print(
        f"one head of {LONG:,} tokens, causal, in one pass: {pass_['milliseconds'] / 1000:.1f} s, "
        f"{pass_['bytes'] / 2**20:,.0f} MiB beyond queries, keys and lse"
    )
    watched = {"watching": seen, "one pass": pass_, "tiles": by_tiles, "links": LINKS, "target": TARGET}
    gpu = {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda, "repeats": options.repeats}
    sizes = {"heads": HEADS, "width": WIDTH, "layers": LAYERS}
    write(options.results, "gpu", {**gpu, **sizes, "rows": rows, **watched})


if __name__ == "__main__":
    main()
