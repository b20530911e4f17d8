"""Says what each of the five encoders learns from real data: accuracy on test over three seeds, from scratch.

    python benchmarks/quality.py                      all of it; what is finished in the results is not done again
    python benchmarks/quality.py --only trec6

Four data sets: TREC-6 (the kind of a question), Banking77 (its intent), names (the language of a surname, by characters) and
EWT (the part of speech of each word). Each run is an ordinary `fit`; the weights are the best on validation data, which
is a tenth of train, or EWT's dev. Only the convolution's settings on TREC-6 were searched, 20 of them, on validation data;
all others were set beforehand and never searched.
"""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from time import perf_counter
from typing import Any

from side_by_side import HERE, arguments, ewt, needed, show, summary, write

from sightline.encoders import KINDS
from sightline.tasks import Data, load
from sightline.training.fit import fit

SEEDS = (0, 1, 2)
TARGETS = {("trec6", "convolution"): 88.2}  # per cent, as convolutions with random embeddings are reported
TITLES = {"trec6": "TREC-6", "banking77": "Banking77", "names": "names", "ewt": "EWT UPOS"}

SHARED: dict[str, dict[str, Any]] = {
    "trec6": {"width": 128, "layers": 1, "dropout": 0.3, "tokens": 512, "epochs": 10, "pool": "max"},
    "banking77": {"width": 128, "layers": 1, "dropout": 0.3, "tokens": 512, "epochs": 10, "pool": "max"},
    "names": {"width": 128, "layers": 2, "dropout": 0.2, "tokens": 1024, "epochs": 6, "pool": "max"},
    "ewt": {"width": 128, "layers": 2, "dropout": 0.3, "tokens": 1024, "epochs": 4},
}
OWN: dict[tuple[str, str], dict[str, Any]] = {  # (data set, encoder), on top of what is shared
    ("trec6", "convolution"): {"width": 256, "kernel": 5, "rate": 8e-3, "weight_decay": 0.3},
}


def settings(name: str, kind: str) -> dict[str, Any]:
    return {"rate": 3e-3, "evaluate_every": "5%"} | SHARED[name] | OWN.get((name, kind), {})


def read(name: str, folder: Path) -> Data:
    """A data set as it is trained on; what comes in a form of its own becomes CSV first, in a folder that is thrown away."""
    match name:
        case "trec6":
            with tempfile.TemporaryDirectory() as made:
                for part in ("train", "test"):
                    lines = needed(folder / "trec" / f"TREC.{part}.all").read_text("latin-1").splitlines()
                    rows = (line.split(" ", 1) for line in lines if line)
                    write_csv(Path(made, f"{part}.csv"), (("label", "question"), *rows))
                return load(made, task="classify", text="question", label="label")
        case "names":
            with tempfile.TemporaryDirectory() as made:
                files = sorted(needed(folder / "names").glob("[A-Z]*.txt"))
                rows = [
                    (file.stem, line)
                    for file in files
                    for line in file.read_text("utf-8").split("\n")
                    if line.strip()
                ]
                write_csv(Path(made, "names.csv"), [("language", "name"), *rows])
                return load(
                    Path(made, "names.csv"),
                    task="classify",
                    text="name",
                    label="language",
                    tokenizer="characters",
                )
        case "banking77":
            return load(needed(folder / "banking77"), task="classify", text="text", label="category")
        case _:
            return ewt(folder)


def write_csv(path: Path, rows: Iterable[tuple[str, str]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def run(data: Data, name: str, kind: str, seed: int) -> dict[str, Any]:
    """One fit, and what came of it; accuracies in per cent."""
    began = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        model = fit(
            data, encoder=kind, out=Path(folder, "run"), progress=False, seed=seed, **settings(name, kind)
        )
    return {
        "data": name,
        "encoder": kind,
        "seed": seed,
        "settings": settings(name, kind),
        "parameters": model.results["parameters"],
        "seconds": perf_counter() - began,
        "step": model.results["step"],
        "valid": 100 * model.results["valid"]["accuracy"],
        "test": 100 * model.results["test"]["accuracy"],
    }


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
    used = [["data", "encoder", "parameters", "seconds", "settings"], ["---", "---", "---:", "---:", "---"]]
    for name in names:
        for kind in KINDS:
            done = [r for r in runs if (r["data"], r["encoder"]) == (name, kind)]
            if done:
                chosen = ", ".join(f"{key} {value}" for key, value in sorted(done[0]["settings"].items()))
                seconds = summary([r["seconds"] for r in done])["median"]
                used.append([TITLES[name], kind, f"{done[0]['parameters']:,}", f"{seconds:.0f}", chosen])
    lines = [
        "# What each encoder learns",
        "",
        "Accuracy on test in per cent, median and range over three seeds, from scratch; written by `benchmarks/quality.py`.",
        "Weights are the best on validation data. Words are lower-cased, those seen once in training are unknown, and no",
        "vectors were brought along. A star: not all seeds have been run yet; an empty cell: none.",
        "",
        "**This table does not rank the encoders.** On TREC-6, 20 settings of the convolution were tried on validation data,",
        "and its model is wider; every other setting was set beforehand and never searched.",
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
    parser = arguments(__doc__.split("\n")[0])
    parser.add_argument(
        "--only", choices=list(TITLES), action="append", help="one data set (may be repeated)"
    )
    parser.add_argument(
        "--page", type=Path, default=HERE.parent / "docs" / "quality.md", help="the page to write"
    )
    given = parser.parse_args()
    path = given.results / "quality.json"
    before = json.loads(path.read_text()) if path.exists() else {"runs": [], "chance": {}}
    runs, chance = before["runs"], before["chance"]
    for name in given.only or TITLES:
        data = read(name, given.data)
        correct, count = data.task.chance(data.test)["accuracy"]
        chance[name] = 100 * correct / count
        for kind in KINDS:
            for seed in SEEDS:
                mine = [r for r in runs if (r["data"], r["encoder"], r["seed"]) == (name, kind, seed)]
                if mine and mine[0]["settings"] == settings(name, kind):
                    continue
                runs = [r for r in runs if r not in mine] + [run(data, name, kind, seed)]
                write(given.results, "quality", {"runs": runs, "chance": chance})
                print({key: value for key, value in runs[-1].items() if key != "settings"}, flush=True)
    names = [name for name in TITLES if name in chance]
    show(
        "accuracy on test, per cent: median (range) over seeds",
        ["", *(TITLES[name] for name in names)],
        [[kind, *(cell(runs, name, kind) for name in names)] for kind in KINDS]
        + [["always the most frequent", *(f"{chance[name]:.1f}" for name in names)]],
    )
    document(runs, chance, given.page)


if __name__ == "__main__":
    main()
