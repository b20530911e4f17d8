"""Claim 8: which heads of a trained model find syntax and reference, read from what `sightline heads` has measured.

Where there are only minutes, and no results are given, an encoder is fitted to a small grammar of our own, and measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from sightline.comparison.protocol import SETTINGS
from sightline.training.model import CONFIG
from sightline.training.runs import fit
from studies.claims.cell import Cell, Found
from studies.claims.claim import Claim, Judged, Stage, listed, not_run, table

ENOUGH, CLEARLY = 100, 0.10  # questions reported on; accuracy
BETTER = "clearly better than the fixed offset, the nearest word, the same word and random weights"
REFERENCE = ("coref", "binding")  # what the names of such relations begin with
COPIED, FITTED = "heads/relations", "heads/fitted"
GRAMMAR, SECONDS = "agreement:attractors=0-3", 15
COMMAND = "sightline heads MODEL CORPUS --out FOLDER, then python -m studies.claims --only 8 --heads FOLDER/heads.json"
KEPT = (
    "relation",
    "layer",
    "head",
    "counts",
    "accuracy",
    "interval",
    "by_offset",
    "ahead",
    "by_nearest",
    "by_same_word",
    "random",
)


def cells(stage: Stage) -> list[Cell]:
    if stage.name == "gpu":
        return []
    if stage.quick and not stage.heads:
        asked = {"data": GRAMMAR, "kind": "self-attention", "seconds": SECONDS} | SETTINGS
        return [Cell(FITTED, asked, _fitted, turn=1, seconds=2 * SECONDS)]
    lacks = "" if stage.heads else f"it needs results: {COMMAND}"
    return [Cell(COPIED, {"from": "sightline heads"}, partial(_relations, stage.heads), seconds=1, lacks=lacks)]


def _relations(files: tuple[Path, ...], place: Path, found: Found) -> dict:
    """Of each file of results the model and its relations: {"files": [{"model", "relations": [{name: value}]}]}."""
    return {"files": [read_heads(file) for file in files]}


def _fitted(place: Path, found: Found) -> dict:
    """The same of an encoder that is fitted here to sentences in which a verb has to agree with its subject."""
    from sightline.head_roles import heads

    place.mkdir(parents=True, exist_ok=True)
    model = fit(
        GRAMMAR,
        encoder="self-attention",
        seconds=SECONDS,
        out=place / "run",
        resume=(place / "run" / CONFIG).exists(),
        evaluation_counts=False,
        progress=False,
        **SETTINGS,
    )
    measured = heads(model, GRAMMAR, out=place / "heads", tell=lambda line: None)
    name = f"self-attention of {SECONDS} seconds on {GRAMMAR}"
    return {"files": [_kept(measured | {"model": name})]}


def read_heads(file: Path) -> dict:
    """The model and the relations of a file that `sightline heads` has left.

    Raises: ValueError where it is something else, or of another version.
    """
    try:
        held = json.loads(file.read_text("utf-8"))
        if (held["format"], held["version"]) != ("sightline heads", 1):
            raise ValueError(f"{held['format']} {held['version']}")
        return _kept(held)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file}: expected the heads.json of sightline heads, version 1, got another file ({error}); run sightline heads"
        ) from None


def _kept(held: Mapping) -> dict:
    return {"model": held["model"], "relations": [{key: one[key] for key in KEPT} for one in held["relations"]]}


def captured(one: Mapping) -> bool:
    """Whether a head finds a relation clearly better than all that needs no trained model, beyond chance.

    `ahead` is the interval of its distance from the offset, drawn together; of the others only the accuracy is known, so
    that the interval of the head's own has to lie above it.
    """
    if one["accuracy"] is None or one["ahead"] is None or one["by_offset"] is None:
        return False
    others = [one[name] for name in ("by_nearest", "by_same_word", "random") if one[name] is not None]
    best = max(others, default=0.0)
    clearly = one["accuracy"] - max(best, one["by_offset"]) >= CLEARLY
    return clearly and one["ahead"][0] > 0 and one["interval"][0] > best


def judge(found: Found) -> Judged:
    files = [file for name in (COPIED, FITTED) if name in found for file in found[name]["files"]]
    if not files:
        return not_run(f"It needs the results of `sightline heads`: `{COMMAND}`.")
    said, shares, tables = [], {"syntax": [], "reference": []}, []
    for file in files:
        asked = [one for one in file["relations"] if one["counts"][1] >= ENOUGH]
        tables.append(_table(file["model"], asked))
        for kind in shares:
            some = [one for one in asked if one["relation"].startswith(REFERENCE) == (kind == "reference")]
            some = [one for one in some if one["relation"] not in REFERENCE] or some  # all of a kind, and its parts
            if some:
                have = [one["relation"] for one in some if captured(one)]
                shares[kind].append((len(have), len(some)))
                said.append(
                    f"{file['model']}, {kind}: one head finds {len(have)} of {len(some)} relations ({listed(have)})."
                )
    order = {kind: sorted(pairs, key=lambda pair: pair[0] / pair[1]) for kind, pairs in shares.items()}
    measured = {kind: (pairs[0], pairs[-1]) for kind, pairs in order.items() if pairs}
    if not measured:
        return not_run(f"No relation has {ENOUGH} questions. `{COMMAND}`.")
    if all(2 * have >= of for (have, of), _ in measured.values()) and len(measured) == 2:
        verdict, first = (
            "holds",
            f"For at least half of the relations of syntax, and of reference, one head is {BETTER}.",
        )
    elif any(have > 0 for _, (have, _) in measured.values()):
        verdict = "holds when"
        parts = ", ".join(
            f"{least[0]} of {least[1]}{f' to {most[0]} of {most[1]} (by model)' * (least != most)} relations of {kind}"
            for kind, (least, most) in measured.items()
        )
        rest = "".join(f"; {kind} was not measured" for kind in shares if kind not in measured)
        first = f"It holds for some relations: one head is {BETTER} for {parts}{rest}."
    else:
        verdict, first = ("does not hold", f"For no relation is one head {BETTER}.")
    if FITTED in found:
        said.append(
            f"That is a single relation, in sentences of a small grammar. Of a pretrained model and real sentences, `{COMMAND}` says more."
        )
    said.append(
        "A head that finds a relation need not be used for it: this is correlation, chosen on one part of a corpus and reported on another."
    )
    return Judged(verdict, [first, *said], tables)


def _table(model: str, relations: list[dict]) -> dict:
    rows = [
        [
            one["relation"],
            f"{one['layer']}.{one['head']}",
            *(one[name] for name in ("accuracy", "by_offset", "by_nearest", "by_same_word", "random")),
            "yes" if captured(one) else "no",
        ]
        for one in relations
    ]
    columns = ["relation", "layer.head", "head", "fixed offset", "nearest", "same word", "random weights", "found"]
    return table(f"{model}: the best head for each relation", columns, rows, "%")


SYNTAX = Claim(
    8,
    "Syntax and reference",
    "Heads capture syntax and reference: single heads follow single relations.",
    "Of a trained model, for each relation, how often the largest weight of its best head goes to a right word, beside the best fixed offset, the nearest word that can be, the nearest same word, and a model of random weights; heads are chosen "
    "on one part of a corpus and reported on another.",
    f"A relation with {ENOUGH} questions is found if its head is {100 * CLEARLY:.0f} points more accurate than the best of what needs no trained model: the best fixed offset (with an interval of the difference that excludes 0), the nearest word, the nearest same word and random weights (with an interval of the head that lies above them). "
    "Holds if half of the relations of syntax and half of those of reference (by their kinds, where these are told apart) are found, where of several models the least counts; holds when some are, in any model; does not hold if none is in any.",
    (
        "Clark et al. 2019, What does BERT look at?, table 1 (heads chosen on the data they are reported on)",
        "Voita et al. 2019, section 5; Htut et al. 2019; Jain and Wallace 2019, Attention is not explanation",
    ),
    cells,
    judge,
    needs=" --heads FILE",
)
