"""Says what each of the five encoders learns from real data: accuracy on test over three seeds, from scratch.

    python benchmarks/quality.py                      all of it; what is finished in the results is not done again
    python benchmarks/quality.py --only trec6
    python benchmarks/quality.py --jobs 2             two runs at a time, a process each

Four data sets: TREC-6 (the kind of a question), Banking77 (its intent), names (the language of a surname, by
characters) and EWT (the part of speech of each word). Each run is an ordinary `fit` on one thread; the weights are the
best on validation data, which is a tenth of train, or EWT's dev. Only the convolution's settings on TREC-6 were
searched, 20 of them, on validation data; all others were set beforehand and never searched.
"""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from side_by_side import HERE, agree, arguments, ewt, needed, show, stop, summary, timed, write

from sightline.encoders import KINDS
from sightline.tasks import Data, load
from sightline.training import Model
from sightline.training.runs import fit

SEEDS = (0, 1, 2)
TARGETS = {("trec6", "convolution"): 88.2}  # per cent, as convolutions with random embeddings are reported
LIMIT = 2e-3  # of accuracy, between batches and each sequence by itself: rounding may turn an answer
TITLES = {"trec6": "TREC-6", "banking77": "Banking77", "names": "names", "ewt": "EWT UPOS"}

SHARED: dict[str, dict[str, Any]] = {
    "trec6": {"width": 128, "layers": 1, "dropout": 0.3, "tokens": 512, "epochs": 10, "pool": "max"},
    "banking77": {"width": 128, "layers": 1, "dropout": 0.3, "tokens": 512, "epochs": 10, "pool": "max"},
    "names": {"width": 128, "layers": 2, "dropout": 0.2, "tokens": 1024, "epochs": 6, "pool": "max"},
    "ewt": {"width": 128, "layers": 2, "dropout": 0.3, "tokens": 1024, "epochs": 4},
}
OWN: dict[tuple[str, str], dict[str, Any]] = {  # (data set, encoder), on top of what is shared
    ("trec6", "convolution"): {"width": 256, "kernel": 5, "rate": 8e-3, "weight_decay": 0.3}
}


SMOKE = {"width": 16, "layers": 1, "dropout": 0.0, "epochs": None, "steps": 30, "rate": 1e-2}


def settings(name: str, kind: str) -> dict[str, Any]:
    return {"rate": 3e-3, "evaluate_every": "5%"} | SHARED[name] | OWN.get((name, kind), {})


@cache
def read(name: str, folder: Path) -> Data:
    """A data set ready for training; one with another format than CSV is converted in a temporary folder."""
    match name:
        case "trec6":
            with tempfile.TemporaryDirectory() as temporary:
                for part in ("train", "test"):
                    lines = needed(folder / "trec" / f"TREC.{part}.all").read_text("latin-1").splitlines()
                    rows = (line.split(" ", 1) for line in lines if line)
                    write_csv(Path(temporary, f"{part}.csv"), (("label", "question"), *rows))
                return load(temporary, task="classify", text="question", label="label")
        case "names":
            with tempfile.TemporaryDirectory() as temporary:
                files = sorted(needed(folder / "names").glob("[A-Z]*.txt"))
                rows = [
                    (file.stem, line) for file in files for line in file.read_text("utf-8").split("\n") if line.strip()
                ]
                write_csv(Path(temporary, "names.csv"), [("language", "name"), *rows])
                return load(
                    Path(temporary, "names.csv"), task="classify", text="name", label="language", tokenizer="characters"
                )
        case "banking77":
            return load(needed(folder / "banking77"), task="classify", text="text", label="category")
        case _:
            return ewt(folder)


def write_csv(path: Path, rows: Iterable[tuple[str, str]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def run(folder: Path, name: str, kind: str, seed: int, smoke: bool = False) -> dict[str, Any]:
    """One fit on one thread, with its accuracies in per cent; stops if the test data differ from its predictions."""
    torch.set_num_threads(1)
    data = read(name, folder)
    began = perf_counter()
    used = settings(name, kind) | (SMOKE if smoke else {})
    with tempfile.TemporaryDirectory() as out:
        model = fit(data, encoder=kind, out=Path(out, "run"), progress=False, seed=seed, **used)
    seconds = perf_counter() - began
    agree(f"{name}, {kind}, accuracy on test", abs(model.results["test"]["accuracy"] - accuracy(model, data)), LIMIT)
    return {
        "data": name,
        "encoder": kind,
        "seed": seed,
        "settings": used,
        "parameters": model.results["parameters"],
        "seconds": seconds,
        "step": model.results["step"],
        "valid": 100 * model.results["valid"]["accuracy"],
        "test": 100 * model.results["test"]["accuracy"],
    }


def accuracy(model: Model, data: Data) -> float:
    """The share of test's targets that the largest score names, each sequence by itself."""
    model.eval()
    alone = [data.test.take([i]) for i in range(len(data.test))]
    with torch.no_grad():
        named = torch.cat([model(one.inputs).argmax(-1) for one in alone])
    targets = torch.cat([one.targets for one in alone])
    return float((named == targets)[targets >= 0].double().mean())


def key(run: dict[str, Any]) -> tuple[str, str, int]:
    return run["data"], run["encoder"], run["seed"]


def each(planned: list[tuple[str, str, int]], folder: Path, jobs: int, smoke: bool) -> Iterator[dict[str, Any]]:
    """The runs that are wanted, as they are finished."""
    if jobs == 1:
        yield from (run(folder, *one, smoke) for one in planned)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        for future in as_completed([pool.submit(run, folder, *one, smoke) for one in planned]):
            yield future.result()


def measured(runs: Iterator[dict[str, Any]]) -> dict[str, Any] | None:
    with timed():
        return next(runs, None)


def cell(runs: list[dict], name: str, kind: str) -> str:
    """Median and range over seeds; a target beside it, and a star where a seed is missing."""
    tests = [r["test"] for r in runs if (r["data"], r["encoder"]) == (name, kind)]
    if not tests:
        return ""
    of = summary(tests)
    text = f"{of['median']:.1f} ({of['least']:.1f}-{of['most']:.1f})" + "*" * (len(tests) < len(SEEDS))
    target = TARGETS.get((name, kind))
    return text if target is None else f"{text}, aim {target}{'' if of['median'] >= target else ' missed'}"


def document(runs: list[dict], chance: dict[str, float], path: Path) -> None:
    """The table and the settings behind it, as a page of the documentation."""
    names = [name for name in TITLES if any(r["data"] == name for r in runs)]
    rows = [["", *(TITLES[name] for name in names)], ["---", *("---:" for _ in names)]]
    rows += [[kind, *(cell(runs, name, kind) for name in names)] for kind in KINDS]
    rows += [["always the most frequent", *(f"{chance[name]:.1f}" for name in names)]]
    used = [["data", "encoder", "parameters", "settings"], ["---", "---", "---:", "---"]]
    for name in names:
        for kind in KINDS:
            done = [r for r in runs if (r["data"], r["encoder"]) == (name, kind)]
            if done:
                chosen = ", ".join(f"{key} {value}" for key, value in sorted(done[0]["settings"].items()))
                used.append([TITLES[name], kind, f"{done[0]['parameters']:,}", chosen])
    introduction = (
        "Accuracy on test in per cent, median and range over three seeds, from scratch; written by "
        "`benchmarks/quality.py`.\nWeights are the best on validation data. Words are lower-cased, those seen once in "
        "training are unknown, and no\nvectors were brought along. A star: not all seeds have been run yet; an empty "
        "cell: none.\n\n**This table does not rank the encoders.** On TREC-6, 20 settings of the convolution were "
        "tried on validation data,\nand its model is wider; every other setting was set beforehand and never searched."
    )
    lines = [
        "# What each encoder learns",
        "",
        introduction,
        "",
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        "## Settings",
        "",
        *("| " + " | ".join(row) + " |" for row in used),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".md.partial")
    aside.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.replace(aside, path)
    print(f"written: {path}")


def main() -> None:
    parser = arguments(__doc__.split("\n")[0], smoke={"page": None})
    parser.add_argument("--only", choices=list(TITLES), action="append", help="one data set (may be repeated)")
    parser.add_argument("--page", type=Path, default=HERE.parent / "docs" / "quality.md", help="the page to write")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each a process of one thread")
    options = parser.parse_args()
    path = None if options.results is None else options.results / "quality.json"
    before = json.loads(path.read_text()) if path and path.exists() else {"runs": [], "chance": {}}
    runs, chance = before["runs"], before["chance"]
    for name in options.only or TITLES:
        data = read(name, options.data)
        correct, count = data.task.chance(data.test)["accuracy"]
        chance[name] = 100 * correct / count
    planned = [(name, kind, seed) for name in options.only or TITLES for kind in KINDS for seed in SEEDS]
    if options.smoke:  # each data set and each encoder once
        planned = [(name, kind, 0) for name, kind in zip(list(TITLES) + ["ewt"], KINDS, strict=True)]
    done = {key(r) for r in runs if r["settings"] == settings(r["data"], r["encoder"])}
    finished = each([w for w in planned if w not in done], options.data, options.jobs, options.smoke)
    while one := measured(finished):
        runs = [r for r in runs if key(r) != key(one)] + [one]
        if path:
            write(options.results, "quality", {"runs": runs, "chance": chance})
        if options.smoke and one["test"] <= chance[one["data"]]:
            stop(f"quality: expected {key(one)} to learn made-up data, got {one['test']:.1f}% on test, as by chance")
        print({name: value for name, value in one.items() if name != "settings"}, flush=True)
    names = [name for name in TITLES if name in chance]
    show(
        "accuracy on test, per cent: median (range) over seeds",
        ["", *(TITLES[name] for name in names)],
        [[kind, *(cell(runs, name, kind) for name in names)] for kind in KINDS]
        + [["always the most frequent", *(f"{chance[name]:.1f}" for name in names)]],
    )
    if options.page:
        document(runs, chance, options.page)
    if not path:
        write(None, "quality", {"runs": runs, "chance": chance})


if __name__ == "__main__":
    main()
