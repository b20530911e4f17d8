"""Prints the Markdown that the docs show of the results, each after the place where it stands, to be pasted.

python benchmarks/tables.py                 # of all results that are there
python benchmarks/tables.py --only training
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from side_by_side import HERE, arguments, stop

Result = dict[str, Any]
SIDES = {
    "sightline": "**sightline**",
    "Hugging Face, sorted": "Hugging Face, sorted by length",
    "ONNX Runtime, fused": "ONNX Runtime, fused, sorted",
    "sentence-transformers": "sentence-transformers `encode`",
}
ENCODERS = {"self-attention": "self-attention", "lstm": "LSTM, two directions", "convolution": "convolution"}
SHORT = {"nn.TransformerEncoder": "`nn.TransformerEncoder`: ", "PackedSequence": "`PackedSequence`: "}


def digits(value: float, count: int = 3) -> str:
    """A figure with so many digits that count, as 3.96, 25.8 or 1,234."""
    places = max(0, count - len(str(int(value))))
    return f"{value:,.{places}f}"


def times(value: float) -> str:
    """How many times as much, with two digits, as 4.7x or 14x."""
    return f"{value:.0f}x" if value >= 10 else f"{value:.1f}x"


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")


def training(result: Result) -> list[str]:
    lines = ["docs/results.md, Training:"]
    lines += [row("", *["EWT sentences: packed", "over padded", "functions of `scope`: packed", "over padded"])]
    lines += ["|---|---:|---:|---:|---:|"]
    for kind, name in ENCODERS.items():
        cells = [name]
        for data in ("EWT", "scope"):
            (one,) = (r for r in result["rows"] if (r["data"], r["encoder"]) == (data, kind))
            padded, *others = one["packed_over"].items()
            more = "".join(f" ({SHORT[side] if data == 'EWT' else ''}{times(x)})" for side, x in others)
            cells += [f"{one['tokens_per_second']['packed']['median']:,.0f}", times(padded[1]) + more]
        lines.append(row(*cells))
    return lines


def embed(result: Result) -> list[str]:
    """Without the matrix products alone, which are no rival."""
    plain, low = result["rows"][:2]
    sides = sorted((each["median"], name) for name, each in plain["seconds"].items() if "products" not in name)
    lines = ["docs/results.md, Vectors of texts:", "| | seconds | times ours |", "|---|---:|---:|"]
    for seconds, name in sides:
        over = plain["times_ours"][name]
        share = "" if name == "sightline" else f"{over:.2f}x" if over < 5 else times(over)
        lines.append(row(SIDES.get(name, name), digits(seconds), share))
    over = result["training"]["times_ours"]
    steps = ", ".join(f"{times(x)} as fast as {name}" for name, x in over.items() if name != "sightline")
    floor = {
        name: one["times_ours"]["the matrix products alone"] for name, one in (("float32", plain), ("bfloat16", low))
    }
    return [
        *lines,
        f"docs/results.md, the sentence below: A training step of a BERT of 4 layers on sentences: {steps}.",
        f"docs/log.md: rate of the matrix products alone: float32 {floor['float32']:.0%}, bfloat16 "
        f"{floor['bfloat16']:.0%}; "
        f"bfloat16 over sentence-transformers: {times(low['times_ours']['sentence-transformers'])}",
    ]


def observe(result: Result) -> list[str]:
    calls = result["calls"]
    lines = ["docs/log.md, Watching:", "| measured | compiled | plain | aim |", "|---|---|---|---|"]
    for name, title in (
        ("8192, full", "watched, of the unwatched forward, 8,192 tokens, full"),
        ("8192, causal", "the same, causal"),
        ("4096, full", "the same, 4,096 tokens"),
    ):
        ratios = calls[name]["watched, of unwatched"]
        lines.append(
            row(title, *(f"{ratios[step]:.2f}" for step in ("compiled", "plain")), "2" if "8" in name[:1] else "")
        )
    eager = calls["4096, full"]["eager, of watched"]
    lines.append(row("eager weights with the same statistics, of watched, 4,096 tokens", times(eager)[:-1], "", "4"))
    memory = [
        " / ".join(f"{size / 2**20:.1f}" for size in result[f"memory, {step}"].values())
        for step in ("compiled", "plain")
    ]
    lines.append(row("memory beyond the inputs at 4k / 16k / 64k tokens, one head, MiB", *memory, ""))
    off = [f"{result[f'memory, {step}, of the line']:.2f}" for step in ("compiled", "plain")]
    lines.append(row("the largest of these, of the line through the other two", *off, "1.3"))
    full, causal = (calls[f"8192, {name}"]["watched, of unwatched"]["compiled"] for name in ("full", "causal"))
    lines.append(
        f"docs/results.md, Watching: Watching one call at 8,192 tokens takes {full:.1f} times the forward pass alone "
        f"(causal {causal:.1f}), and eager weights with the same statistics {eager:.1f} times that (4,096 tokens)"
    )
    if "long" in result:
        lines.append(f"docs/log.md, 100,000 tokens: {json.dumps(result['long'])}")
    return lines


def attention(result: Result) -> list[str]:
    lines = ["docs/log.md, float32, forward / forward with backward:"]
    lines += [row("", "padded SDPA", "nested", "one call per sequence"), "|---|---:|---:|---:|"]
    mixes: dict[str, dict[str, list[float]]] = {}
    for one in result["rows"]:
        if one["dtype"] == "torch.float32":
            for side in ("padded", "nested", "each"):
                sides = mixes.setdefault(one["mix"], {})
                sides.setdefault(side, []).append(one["times_ours"][side]["median"])
    for mix, sides in mixes.items():
        lines.append(row(mix, *(" / ".join(times(x)[:-1] for x in each) for each in sides.values())))
    (ahead, back) = zip(*mixes["EWT, 256 sentences, sorted"].values(), strict=True)
    padded, nested, each = (times(x)[:-1] for x in ahead)
    lines.append(
        "docs/results.md, Attention alone: Attention alone, 256 sentences of EWT, sorted by length, in float32 on two "
        f"cores: padded SDPA takes {padded} times as long, nested tensors {nested} times, a call for each sentence "
        f"{each} times; with the backward pass {', '.join(times(x)[:-1] for x in back)}"
    )
    return lines


def nanogpt(result: Result) -> list[str]:
    ours, *others = result["rows"]
    lines = ["docs/results.md, Training:"]
    for one in (ours, *others):
        reached = one["seconds_to_target"]
        lines.append(
            f"{one['side']}: {one['best_estimate']:.3f} nats per character "
            f"({one['whole_validation']:.3f} over all validation text), "
            f"{result['target']} passed after {'no time' if reached is None else f'{reached:.0f} s'}, "
            f"{one['seconds']:.1f} s in all"
        )
    return lines + [
        f"all iterations take {ours['seconds'] / one['seconds']:.2f} of the time of {one['side']}" for one in others
    ]


def serving(result: Result) -> list[str]:
    alone, word, many = (result[name] for name in ("tiles, one by one", "a word: a row or a column", "200 at once"))
    return [
        "docs/log.md, Serving a long text: "
        f"reading and forward pass {result['reading the text and the forward pass']:.0f} s; "
        f"first picture {result['first picture']:.1f} s after that (aim 5), from {result['of the rows']:.1%} of the "
        f"rows; the whole map of a head exact after {result['whole map exact']:.0f} s. "
        f"Tiles one by one: median {1000 * alone['median']:.0f} ms, 95th percentile {1000 * alone['95th']:.0f} ms "
        f"(aim 100); a word's row or column: median {1000 * word['median']:.0f} ms. "
        f"200 at once are all answered, the last after {many['all']:.1f} s."
    ]


def heads(result: Result) -> list[str]:
    ours, usual = (result["seconds"][side]["median"] for side in ("sightline", "usual"))
    return [
        f"docs/log.md, Which head does what: {result['documents']:,} sentences: {ours:.1f} s of processor time "
        f"against {usual:.1f} s of the usual way, {times(result['faster'])}; "
        f"means differ by {result['errors']['means']:.0e}, shares by {result['errors']['shares']:.1e}"
    ]


def importing(result: Result) -> list[str]:
    return [f"import: {result['added']:.3f} s over torch (at most {result['limit']} was asked)"]


TABLES: dict[str, Callable[[Result], list[str]]] = {
    each.__name__: each for each in (training, embed, observe, attention, nanogpt, serving, heads, importing)
}


def load_of(result: Result) -> str:
    load = result.get("machine", {}).get("load", {})
    return load.get("note", "idle" if load else "of an unknown load")


def main() -> None:
    parser = arguments(__doc__.split("\n")[0])
    parser.add_argument("--only", choices=list(TABLES), action="append", help="one result (may be repeated)")
    options = parser.parse_args()
    folder: Path = options.results or HERE / "results"
    for name in options.only or TABLES:
        path = folder / f"{name}.json"
        if not path.is_file():
            if options.only:
                stop(f"{path}: expected a result, got no such file; run python benchmarks/{name}.py, or name --results")
            continue
        result = json.loads(path.read_text("utf-8"))
        about = (
            f"{result['date'][:10]}, commit {result['commit']}, {result['threads']} threads, machine {load_of(result)}"
        )
        print(f"# {name}.json: {about}", *TABLES[name](result), "", sep="\n")
    if options.smoke:
        print("tables: the checks passed; nothing is written")


if __name__ == "__main__":
    main()
