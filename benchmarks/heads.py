"""Measures every head of a model on a corpus: speed against the usual code, and memory that does not grow.

    python benchmarks/heads.py CORPUS.conllu ...
    python benchmarks/heads.py CORPUS.conllu --long  # also one text of 50,000 tokens

The encoder is all-MiniLM-L6-v2. The usual code is in `heads_usual.py`: eager attention, `output_attentions=True`,
batches of 32 padded, in the corpus's order. Both sides give the same measures and answers, which is checked before any
speed. Seconds are those of the processor, so that other work on the machine does not count.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time

import embed_rivals as rivals
import numpy as np
import torch
from heads_usual import Usual
from side_by_side import against, agree, arguments, needed, show, stop, summary, timed, write
from transformers import AutoModel, BertModel

from sightline.encoders import build
from sightline.head_roles.corpus import corpus_of
from sightline.head_roles.gold import Corpus, Document, build_corpus
from sightline.head_roles.measuring import measure
from sightline.head_roles.totals import HEADS, OVER
from sightline.models.opening import OpenModel, open_attention
from sightline.models.word_pieces import WordPieces

FASTER, LIMIT = 5.0, 1e-4
OTHERS = 1e-3  # of queries whose largest weight may turn out to lie elsewhere, by rounding
TIMES = 4  # as often the corpus is read again, for its memory
LONG = (12_500, 25_000, 50_000)
LINE = 1.3  # how far the longest may lie above the line through the shorter ones


def ours(subject: OpenModel, corpus: Corpus) -> None:
    with tempfile.TemporaryDirectory() as folder:
        measure(subject, corpus, folder)


def eager() -> BertModel:
    return AutoModel.from_pretrained(rivals.MODEL, attn_implementation="eager").eval()


def usual(model: BertModel, subject: OpenModel, corpus: Corpus) -> Usual:
    heads = model.config.num_hidden_layers * model.config.num_attention_heads
    return Usual(model, heads).run(subject, corpus)


def errors(corpus: Corpus) -> dict[str, float]:
    """The largest difference of a mean, and of a share of queries or answers."""
    with tempfile.TemporaryDirectory() as folder:
        subject = open_attention(rivals.MODEL)
        one, other = measure(subject, corpus, folder), usual(eager(), subject, corpus)
        differ = float((np.asarray(one.answers).reshape(len(corpus), -1) != other.hits.numpy()).mean())
    worst, turned, expected = 0.0, differ, other.measures()
    for name in HEADS:
        if name != "distances":
            value = torch.from_numpy(one.sums.measures()[name]).flatten(0, 1)
            error = float((value - expected[name]).nan_to_num().abs().max())
            if name.endswith("_best") or name == "sink":  # shares of queries, of which rounding may turn some
                turned = max(turned, error)
            else:
                worst = max(worst, error)
    shares = one.sums["distances"].flatten(0, 1) / one.sums[OVER.get("distances", "queries")]
    worst = max(worst, float((shares - expected["distances"]).abs().max()))
    agree("means", worst, LIMIT)
    agree("largest weights, the share that lie elsewhere", turned, OTHERS)
    return {"means": worst, "shares": turned}


def seconds(corpus: Corpus, repeats: int) -> dict[str, list[float]]:
    """Of the processor, of each turn of each side: A, B, A, B, ..."""
    subject, model = open_attention(rivals.MODEL), eager()
    turns: dict[str, list[float]] = {"sightline": [], "usual": []}
    for _ in range(repeats):
        for name, side in (("sightline", ours), ("usual", partial(usual, model))):
            with timed():
                began = process_time()
                side(subject, corpus)
                turns[name].append(process_time() - began)
    return turns


# --- memory, in processes of its own --------------------------------------------------------------------------------


def peak() -> int:
    """Peak bytes of this process, without those of its parent, which `ru_maxrss` would count."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def measured_memory(*arguments: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
    before, after, took = map(float, done.stdout.split()[-3:])
    return {"before": before, "peak": after, "seconds": took}


def hold(corpus: Corpus) -> None:
    """Prints what measuring takes: bytes before and at most, and seconds."""
    subject = open_attention(rivals.MODEL)
    ours(subject, corpus.take(range(min(100, len(corpus.documents)))))
    before, began = peak(), process_time()
    ours(subject, corpus)
    print(before, peak(), process_time() - began)


def hold_long(n: int) -> None:
    """The same of one text of n tokens, for one layer of two heads."""
    torch.manual_seed(0)
    encoder = build("self-attention", vocabulary=1000, width=64, layers=1, heads=2).eval()
    read = WordPieces.plain(np.random.default_rng(0).integers(0, 1000, n), np.arange(n) // 2, n // 2)
    text = Document("long", ("x",) * (n // 2), (" ",) * (n // 2))
    subject = OpenModel(
        "long", encoder, encoder, lambda model, ids: model(ids), None, lambda documents: [read] * len(documents),
        ordinary=np.arange(1000),
    )  # fmt: skip
    before, began = peak(), process_time()
    with tempfile.TemporaryDirectory() as folder:
        measure(subject, build_corpus([text], [], []), folder)
    print(before, peak(), process_time() - began)


def off_the_line(sizes: list[float]) -> float:
    """How far the longest lies above the line through the two shorter ones."""
    (a, b, c), (x, y, z) = LONG, sizes
    return z / (y + (y - x) / (b - a) * (c - b))


def memory(files: list[str], long: bool) -> dict:
    """What reading a corpus holds, once and several times over, and one long text at three lengths."""
    figures: dict = {"memory": {f"{n}x": measured_memory(*files, "--hold", str(n)) for n in (1, TIMES)}}
    show("memory, MiB", ["corpus", "before", "most"], [
        [name, *(f"{one[key] / 2**20:.0f}" for key in ("before", "peak"))]
        for name, one in figures["memory"].items()
    ])  # fmt: skip
    if long:
        texts = {str(n): measured_memory("--hold-long", str(n)) for n in LONG}
        grown = [one["peak"] - one["before"] for one in texts.values()]
        figures["long"] = texts | {"of the line": off_the_line(grown)}
        print(
            f"one text: {[round(g / 2**20) for g in grown]} MiB at {LONG}, "
            f"{off_the_line(grown):.2f} of the line (aim {LINE})"
        )
    return figures


def main() -> None:
    parser = arguments(__doc__.partition("\n")[0], repeats=2, smoke={"sentences": 24})
    parser.add_argument("corpus", type=Path, nargs="*", help="files of CoNLL-U")
    parser.add_argument("--sentences", type=int, help="only so many of the corpus")
    parser.add_argument("--long", action="store_true", help="also one text of 50,000 tokens")
    parser.add_argument("--hold", type=int, help="print the memory of reading the corpus so often, and stop")
    parser.add_argument("--hold-long", type=int, help="print the memory of one text so long, and stop")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.hold_long:
        return hold_long(options.hold_long)
    if options.smoke and not options.corpus:
        options.corpus = [options.data / "ud-english-ewt" / "en_dev.conllu"]
    if not options.corpus:
        stop("heads: expected files of CoNLL-U to measure on, got none; name them")
    corpus = corpus_of([needed(path, "another file") for path in options.corpus] * (options.hold or 1))
    if options.sentences:
        corpus = corpus.take(range(min(options.sentences, len(corpus.documents))))
    if options.hold:
        return hold(corpus)
    figures: dict = {"documents": len(corpus.documents), "questions": len(corpus)}
    figures["errors"] = errors(corpus)
    turns = seconds(corpus, options.repeats)
    ratio = median(turns["usual"]) / median(turns["sightline"])
    figures |= {"seconds": {name: summary(each) for name, each in turns.items()}, "faster": ratio}
    rows = [[name, f"{median(each):.1f}"] for name, each in turns.items()]
    show(f"{len(corpus.documents):,} sentences, every head: {against(ratio, FASTER)}", ["", "seconds"], rows)
    if options.smoke:  # memory is told by processes of their own; here only what these do
        hold(corpus)
        hold_long(64)
    else:
        some = ["--sentences", str(options.sentences)] if options.sentences else []
        figures |= memory([*map(str, options.corpus), *some], options.long)
    write(options.results, "heads", figures)


if __name__ == "__main__":
    main()
