"""Says how much faster a real encoder is without padding: texts to vectors, ours against its rivals, taking turns.

    python benchmarks/embed.py
    python benchmarks/embed.py --profile    # where the time of ours goes

The encoder is all-MiniLM-L6-v2; the 512 texts, of 3 to 512 tokens, come from the interpreter's own documentation. A
side turns texts into vectors, tokenizer and pooling included. Before any speed, its vectors are compared with float64:
to 1e-5 in float32; in bfloat16 they may be twice as wrong as eager attention is. "The matrix products alone" are the
floor: see `embed_rivals.Products`. Beside it stands a training step: see `finetuning.py`. On a GPU, sides are in
bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import embed_onnx
import embed_rivals as rivals
import finetuning
import torch
from side_by_side import against, agree, arguments, show, summary, take_turns, write
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModel
from transformers.utils import is_flash_attn_2_available

from sightline.huggingface.embed import embed

TOKENS = 2048  # of a pack
FLOOR = "the matrix products alone"
TARGETS = {  # how many times as long as ours
    torch.float32: {
        "sentence-transformers": 2.2,
        "ONNX Runtime, fused": 1.8,
        "Hugging Face, batches as given": 5.0,
        FLOOR: 0.9,
    },
    torch.bfloat16: {"sentence-transformers": 2.5},
}
LIMIT = 1e-5  # largest error of a vector's numbers in float32; vectors are of norm one
ROUNDING = 2**-8  # of bfloat16: a vector's numbers are below one, so it is a last place of the largest possible


# --- the sides ------------------------------------------------------------------------------------------------------


def ours(texts: list[str], dtype: torch.dtype, device: str) -> Callable[[], Tensor]:
    model = AutoModel.from_pretrained(rivals.MODEL, dtype=dtype).to(device).eval()
    options = {"tokenizer": rivals.tokenizer, "pooling": "mean", "normalize": True, "tokens": TOKENS}
    return lambda: embed(model, texts, **options)


def sides(texts: list[str], dtype: torch.dtype, device: str) -> dict[str, Callable[[], Tensor]]:
    setting = (dtype, device)
    if device == "cuda":
        names = ["sdpa", "eager"] + ["flash_attention_2"] * is_flash_attn_2_available()
        padded = {f"Hugging Face, sorted, {name}": rivals.hugging_face(texts, True, *setting, name) for name in names}
        flash = {
            f"sentence-transformers, {name}": rivals.sentence_transformers(texts, *setting, name) for name in names[2:]
        }
        return {
            "sightline": ours(texts, *setting),
            **padded,
            "sentence-transformers": rivals.sentence_transformers(texts, *setting),
            **flash,
        }
    all_sides = {
        "sightline": ours(texts, *setting),
        "sentence-transformers": rivals.sentence_transformers(texts, *setting),
        "Hugging Face, sorted": rivals.hugging_face(texts, True, *setting),
    }
    if dtype == torch.float32:
        all_sides["Hugging Face, batches as given"] = rivals.hugging_face(texts, False, *setting)
        all_sides["ONNX Runtime, fused"] = embed_onnx.onnx_runtime(texts, torch.get_num_threads())
    return all_sides


def check(all_sides: dict[str, Callable], exact: Tensor, dtype: torch.dtype, reference: float) -> dict:
    """The largest error of each side's vectors; stops where one is too large."""
    limit = LIMIT if dtype == torch.float32 else 2 * reference + ROUNDING / 4
    errors = {}
    for name, side in all_sides.items():
        error = float((side().double().cpu() - exact).abs().max())
        errors[name] = agree(f"{name} in {dtype}, against float64", error, limit)
    return errors


def measure(texts: list[str], exact: Tensor, dtype: torch.dtype, device: str, repeats: int) -> dict[str, Any]:
    """Seconds of each side in one precision, and how many times as long as ours they take."""
    eager = rivals.hugging_face(texts, True, dtype, device, "eager")()
    reference = float((eager.double().cpu() - exact).abs().max())
    all_sides = sides(texts, dtype, device)
    errors = check(all_sides, exact, dtype, reference)
    products = rivals.Products(rivals.lengths(texts), dtype, device, TOKENS)
    callables = {**all_sides, FLOOR: products}
    turns = take_turns(callables, repeats)
    base = median(turns["sightline"])
    return {
        "dtype": str(dtype),
        "device": device,
        "error_of_eager": reference,
        "error": errors,
        "seconds": {name: summary(each) for name, each in turns.items()},
        "times_ours": {name: median(each) / base for name, each in turns.items()},
        "targets": TARGETS[dtype] if device == "cpu" else {},
        "products": {"operations": products.operations, "per_second": products.operations / median(turns[FLOOR])},
    }


# --- where the time goes --------------------------------------------------------------------------------------------

KINDS = {  # of operations, by a part of their names; the first that fits
    "attention": ("scaled_dot_product", "flash"),
    "matrix products": ("addmm", "::mm", "bmm", "linear", "matmul"),
    "normalisation": ("norm",),
    "gelu": ("gelu",),
    "adding": ("::add",),
    "moving rows": ("copy", "index", "cat", "embedding", "gather", "clone"),
}


def show_profile(texts: list[str], dtype: torch.dtype) -> None:
    """One turn of ours, by kind of operation and by operation; the times are each operation's own."""
    side = ours(texts, dtype, "cpu")
    side()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        side()
    events = seen.key_averages()
    times: dict[str, float] = {}
    for event in events:
        kind = next((k for k, parts in KINDS.items() if any(p in event.key for p in parts)), "all else")
        times[kind] = times.get(kind, 0.0) + event.self_cpu_time_total
    total = sum(times.values())
    show(
        f"ours in {dtype}: {total / 1e6:.2f} s under the profiler, {len(texts)} texts",
        ["", "s", "share"],
        [
            [kind, f"{time / 1e6:.3f}", f"{time / total:.0%}"]
            for kind, time in sorted(times.items(), key=lambda item: -item[1])
        ],
    )
    print(events.table(sort_by="self_cpu_time_total", row_limit=16, max_name_column_width=50))


# --- all of it ------------------------------------------------------------------------------------------------------


def show_table(row: dict[str, Any], tokens: int) -> None:
    rate = row["products"]["per_second"] / 1e9
    show(
        f"texts to vectors in {row['dtype']} on the {row['device']}, {tokens:,} tokens; "
        f"the products run at {rate:,.0f} GFLOP/s",
        ["", "s", "tokens/s", "times ours", "error"],
        [
            [
                name,
                f"{each['median']:.3f}",
                f"{tokens / each['median']:,.0f}",
                "" if name == "sightline" else against(row["times_ours"][name], row["targets"].get(name)),
                f"{row['error'][name]:.1e}" if name in row["error"] else "",
            ]
            for name, each in row["seconds"].items()
        ],
    )


def main() -> None:
    parser = arguments(__doc__.split("\n")[0], repeats=7, smoke={"texts": 6, "batches": 2, "longest": 32})
    parser.add_argument("--texts", type=int, default=512, help="how many")
    parser.add_argument("--longest", type=int, default=rivals.LONGEST, help="tokens at which texts are cut")
    parser.add_argument("--batches", type=int, default=8, help="training steps of a turn")
    parser.add_argument("--profile", action="store_true", help="says where the time goes, and nothing else")
    options = parser.parse_args()
    texts = rivals.texts(options.texts, options.longest)
    if options.profile:
        for dtype in TARGETS:
            show_profile(texts, dtype)
        return
    repeats = options.repeats
    lengths = rivals.lengths(texts)
    exact = rivals.hugging_face(texts, True, torch.float64, "cpu")()
    rows = [measure(texts, exact, dtype, "cpu", repeats) for dtype in TARGETS]
    if torch.cuda.is_available():
        rows.append(measure(texts, exact, torch.bfloat16, "cuda", repeats))
    for row in rows:
        show_table(row, sum(lengths))
    sizes = finetuning.TINY if options.smoke else finetuning.SMALL
    steps = finetuning.measure(options.data, options.batches, repeats, sizes)
    finetuning.show_steps(steps)
    about = {"count": len(texts), "tokens": sum(lengths), "mean": sum(lengths) / len(texts)}
    about["longest"] = max(lengths)
    figures = {"model": "all-MiniLM-L6-v2", "texts": about, "tokens_in_a_pack": TOKENS}
    write(options.results, "embed", {**figures, "repeats": repeats, "rows": rows, "training": steps})


if __name__ == "__main__":
    main()
