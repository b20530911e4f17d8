"""Claim 8: which heads of a trained model find syntax and reference, read from the results of `sightline heads`.

In the quick stage without such results, an encoder is fitted to a small generated grammar and measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from sightline.comparison.protocol import SETTINGS
from sightline.head_roles import heads
from sightline.training.model import CONFIG
from sightline.training.runs import fit
from studies.claims.cell import Cell, Results
from studies.claims.claim import Claim, Judgement, Stage, Verdict, listed, not_run, table

ENOUGH, CLEARLY = 100, 0.10  # questions in the reported part; accuracy
BETTER = "clearly better than the fixed offset, the nearest word, the same word and random weights"
REFERENCE = ("coref", "binding")  # the first part of the names of such relations
COPIED, FITTED = "heads/relations", "heads/fitted"
GRAMMAR, SECONDS = "agreement:attractors=0-3", 15
COMMAND = "sightline heads MODEL CORPUS --out FOLDER, then python -m studies.claims --only 8 --heads FOLDER/heads.json"
OTHERS = ("by_nearest", "by_same_word", "random")  # what needs no trained model, besides the fixed offset
KEPT = ("relation", "layer", "head", "counts", "accuracy", "interval", "by_offset", "ahead", *OTHERS)


def cells(stage: Stage) -> list[Cell]:
    if stage.name == "gpu":
        return []
    if stage.quick and not stage.heads:
        settings = {"data": GRAMMAR, "kind": "self-attention", "seconds": SECONDS} | SETTINGS
        return [Cell(FITTED, settings, _fitted, turn=1, seconds=2 * SECONDS)]
    missing = "" if stage.heads else f"it needs results: {COMMAND}"
    return [Cell(COPIED, {"from": "sightline heads"}, partial(_copied, stage.heads), seconds=1, missing=missing)]


def _copied(files: tuple[Path, ...], folder: Path, results: Results) -> dict:
    """The model and the relations of each result file: {"files": [{"model", "relations": [{name: value}]}]}."""
    return {"files": [read_heads(file) for file in files]}


def _fitted(folder: Path, results: Results) -> dict:
    """The same for an encoder that is fitted to sentences in which a verb has to agree with its subject."""
    folder.mkdir(parents=True, exist_ok=True)
    model = fit(
        GRAMMAR,
        encoder="self-attention",
        seconds=SECONDS,
        out=folder / "run",
        resume=(folder / "run" / CONFIG).exists(),
        evaluation_counts=False,
        progress=False,
        **SETTINGS,
    )
    measured = heads(model, GRAMMAR, out=folder / "heads", tell=lambda line: None)
    name = f"self-attention of {SECONDS} seconds on {GRAMMAR}"
    return {"files": [_model_relations(measured | {"model": name})]}


def read_heads(file: Path) -> dict:
    """The model and the relations of a result file of `sightline heads`.

    Raises: ValueError for another file, or one of another version.
    """
    try:
        content = json.loads(file.read_text("utf-8"))
        if (content["format"], content["version"]) != ("sightline heads", 1):
            raise ValueError(f"{content['format']} {content['version']}")
        return _model_relations(content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file}: expected the heads.json of sightline heads, version 1, got another file ({error}); run "
            "sightline heads"
        ) from None


def _model_relations(content: Mapping) -> dict:
    relations = [{key: relation[key] for key in KEPT} for relation in content["relations"]]
    return {"model": content["model"], "relations": relations}


# ---- the verdict -----------------------------------------------------------------------------------------------------


def captured(relation: Mapping) -> bool:
    """Whether a head finds a relation clearly better than everything that needs no trained model, beyond chance.

    `ahead` is the interval of the difference from the fixed offset. Of the others only the accuracy is known, so the
    interval of the head's own accuracy must lie above it.
    """
    if relation["accuracy"] is None or relation["ahead"] is None or relation["by_offset"] is None:
        return False
    best = max((relation[name] for name in OTHERS if relation[name] is not None), default=0.0)
    clearly = relation["accuracy"] - max(best, relation["by_offset"]) >= CLEARLY
    return clearly and relation["ahead"][0] > 0 and relation["interval"][0] > best


def judge(results: Results) -> Judgement:
    files = [file for name in (COPIED, FITTED) if name in results for file in results[name]["files"]]
    if not files:
        return not_run(f"It needs the results of `sightline heads`: `{COMMAND}`.")
    sentences, tables = [], []
    counts: dict[str, list[tuple[int, int]]] = {"syntax": [], "reference": []}  # (captured, all) of each model
    for file in files:
        enough = [relation for relation in file["relations"] if relation["counts"][1] >= ENOUGH]
        tables.append(_table(file["model"], enough))
        for kind, of_models in counts.items():
            if relations := _of_kind(enough, kind):
                names = [relation["relation"] for relation in relations if captured(relation)]
                of_models.append((len(names), len(relations)))
                sentences.append(
                    f"{file['model']}, {kind}: one head finds {len(names)} of {len(relations)} relations "
                    f"({listed(names)})."
                )
    if not any(counts.values()):
        return not_run(f"No relation has {ENOUGH} questions. `{COMMAND}`.")
    verdict, first = _verdict(counts)
    if FITTED in results:
        sentences.append(
            "That is a single relation, in sentences of a small grammar. Of a pretrained model and real "
            f"sentences, `{COMMAND}` says more."
        )
    sentences.append(
        "A head that finds a relation need not be used for it: this is correlation, chosen on one part of a "
        "corpus and reported on another."
    )
    return Judgement(verdict, [first, *sentences], tables)


def _of_kind(relations: list[dict], kind: str) -> list[dict]:
    """The relations of syntax or of reference; a relation that is the sum of others only if there are no others."""
    of_kind = [one for one in relations if one["relation"].startswith(REFERENCE) == (kind == "reference")]
    return [one for one in of_kind if one["relation"] not in REFERENCE] or of_kind


def _verdict(counts: dict[str, list[tuple[int, int]]]) -> tuple[Verdict, str]:
    """The verdict, and the sentence that explains it, from (captured, all) of each model by kind of relation."""
    order = {kind: sorted(pairs, key=lambda pair: pair[0] / pair[1]) for kind, pairs in counts.items() if pairs}
    least_half = all(2 * pairs[0][0] >= pairs[0][1] for pairs in order.values())
    if least_half and len(order) == 2:
        return "holds", f"For at least half of the relations of syntax, and of reference, one head is {BETTER}."
    if not any(pairs[-1][0] for pairs in order.values()):
        return "does not hold", f"For no relation is one head {BETTER}."
    parts = ", ".join(f"{_range(pairs[0], pairs[-1])} relations of {kind}" for kind, pairs in order.items())
    rest = "".join(f"; {kind} was not measured" for kind in counts if kind not in order)
    return "holds when", f"It holds for some relations: one head is {BETTER} for {parts}{rest}."


def _range(least: tuple[int, int], most: tuple[int, int]) -> str:
    """The least and the most over models, once if they are equal."""
    first, last = (f"{part} of {whole}" for part, whole in (least, most))
    return first if least == most else f"{first} to {last} (by model)"


def _table(model: str, relations: list[dict]) -> dict:
    rows = []
    for relation in relations:
        shares = [relation[name] for name in ("accuracy", "by_offset", *OTHERS)]
        head, is_captured = f"{relation['layer']}.{relation['head']}", "yes" if captured(relation) else "no"
        rows.append([relation["relation"], head, *shares, is_captured])
    columns = ["relation", "layer.head", "head", "fixed offset", "nearest", "same word", "random weights", "found"]
    return table(f"{model}: the best head for each relation", columns, rows, "%")


SYNTAX = Claim(
    8,
    "Syntax and reference",
    "Heads capture syntax and reference: single heads follow single relations.",
    (
        "Of a trained model, for each relation, how often the largest weight of its best head goes to a right "
        "word; beside it the best fixed offset, the nearest possible word, the nearest same word, and a model of "
        "random weights. Heads are chosen on one part of a corpus and reported on another."
    ),
    (
        f"A relation with {ENOUGH} questions is found if its head is {100 * CLEARLY:.0f} points more accurate "
        "than the best of what needs no trained model: the best fixed offset (with an interval of the difference "
        "that excludes 0), the nearest word, the nearest same word and random weights (with an interval of the "
        "head's accuracy that lies above them). Holds if half of the relations of syntax and half of those of "
        "reference (by kind, if kinds are measured separately) are found; with several models the smallest "
        "share counts. Holds when some are found, in any model; does not hold if none is."
    ),
    (
        "Clark et al. 2019, What does BERT look at?, table 1 (heads chosen on the data they are reported on)",
        "Voita et al. 2019, section 5; Htut et al. 2019; Jain and Wallace 2019, Attention is not explanation",
    ),
    cells,
    judge,
    needs=" --heads FILE",
)
