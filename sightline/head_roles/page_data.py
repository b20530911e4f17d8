"""The data of a report's page, of one model or of two on the same words: heads.json, reduced to a size for browsers.

version, page    1, "heads"
title, about     a line; a list of paragraphs
models           [{name, layers, heads, labels: {"layer.head": [names]}, notes, ablation: null or as in `ablation`}]
measures         [{name, group, unit, values: for each model one for each head, layer by layer, or null}]
start            {x, y: the numbers of the measures that are shown first}
relations        [{name, offset, by_offset, by_nearest, by_same_word,
                   models: [null or {beats: whether its head beats all baselines, layer, head, counts, accuracy,
                            interval, random, distances, note, right, wrong}]}]
examples         for each model, for each head null or {relation, right, wrong}; texts as in `examples`, none where the
                 page is full
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sightline.head_roles.choice import beats
from sightline.models import direction

FORMAT, VERSION, FILE = "sightline heads", 1, "heads.json"
MOST_VALUES = 60_000  # of one kind: offsets, relations
MOST_CHARACTERS = 600_000  # of examples
MOST_RELATIONS = 300
SCALARS = {  # name in heads.json: name on the page, unit
    "entropy": ("entropy", "nats"),
    "confidence": ("largest weight, on average", "share"),
    "first": ("weight on the first token", "share"),
    "special": ("weight on special tokens", "share"),
    "separator": ("weight on separators", "share"),
    "punctuation": ("weight on punctuation", "share"),
    "sink": ("tokens that give the first over 30%", "share"),
    "duplicate": ("weight on the same token before", "share"),
    "induction": ("weight on what followed the same token", "share"),
    "rare": ("weight on the rarest word", "share"),
}
REPEATED = {"duplicate": "the same token", "induction": "what followed the same token"}
KEYS = (
    "model layers heads corpus parts relations finds examples syntactic positional measures repeated offsets ablation"
).split()
RELATION = ("layer", "head", "counts", "accuracy", "interval", "random", "distances", "note", "right", "wrong")


def read_report(path: str | Path) -> dict[str, Any]:
    """The report in a file heads.json, or in the folder of one.

    Raises: ValueError where there is none, or one without all that a page shows.
    """
    path = Path(path) / FILE if Path(path).is_dir() else Path(path)
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected the heads.json of a report, got {error}; name the folder of one") from None
    if not isinstance(document, dict) or (document.get("format"), document.get("version")) != (FORMAT, VERSION):
        raise ValueError(f"{path}: expected the heads.json of a report, got another file; name the folder of one")
    missing = [key for key in KEYS if key not in document]
    missing += [key for key in RELATION if any(key not in row for row in document.get("relations", ()))]
    if missing:
        raise ValueError(
            f"{path}: expected a whole heads.json, got one without {', '.join(missing)}; "
            "name the folder that a run has written"
        )
    return document


def check_same_words(corpus: str, beside: dict[str, Any]) -> None:
    """Raises: ValueError where the digest of a report's words is not `corpus`."""
    if beside["corpus"] != corpus:
        raise ValueError(
            f"heads: expected beside it a report on the same words, got one of {beside['model']} on others; "
            "run it on the same corpus"
        )


def report_page(document: dict[str, Any], beside: dict[str, Any] | None = None) -> dict[str, Any]:
    """The data of the page of a report, with another report beside it.

    Raises: ValueError where the other is on other words.
    """
    if beside is not None:
        check_same_words(document["corpus"], beside)
    both = [document] if beside is None else [document, beside]
    texts, words = (sum(part[what] for part in document["parts"]) for what in ("documents", "words"))
    count = len(document["relations"])
    about = [f"Every head on {texts:,} texts of {words:,} words."]
    if count:
        about.append(
            f"For each of {count} relations the head was chosen on one part of the texts; "
            "its share of right answers is of the other."
        )
        about += [wins(one) for one in both]
    if count > MOST_RELATIONS:
        about.append(f"Here are the {MOST_RELATIONS} with most questions; heads.json has all.")
    measures, relations, examples = _measures(both), _relations(both), [_examples(one) for one in both]
    room = MOST_CHARACTERS
    for rows in ([row for one in relations for row in one["models"]], *examples):
        room = _drop_examples(rows, room)
    names = [one["name"] for one in measures]
    special = names.index(SCALARS["special"][0])
    has_special = any(value for values in measures[special]["values"] for value in values)
    y = special if has_special else names.index(SCALARS["first"][0])
    return {
        "version": 1,
        "page": "heads",
        "title": "Which head does what: " + " and ".join(one["model"] for one in both),
        "about": about,
        "models": [_model(one) for one in both],
        "measures": measures,
        "start": {"x": names.index(SCALARS["entropy"][0]), "y": y},
        "relations": relations,
        "examples": examples,
    }


def wins(document: dict[str, Any]) -> str:
    """A sentence with the number of relations in which a head beats all baselines."""
    rows = document["relations"]
    better = sum(map(beats, rows))
    return (
        f"In {better} of {len(rows)} relations a head of {document['model']} beats what needs no trained model: "
        "the best fixed offset, the nearest word, the same word, the best head of random weights."
    )


def _model(document: dict[str, Any]) -> dict[str, Any]:
    labels: dict[str, list[str]] = {}
    for layer, row in enumerate(document["positional"]):
        for head, side in enumerate(row):
            if side:
                labels[f"{layer}.{head}"] = ["looks at the word " + ("before" if side < 0 else "after")]
    for one in document["syntactic"]:
        labels.setdefault(f"{one['layer']}.{one['head']}", []).extend(one["relations"])
    notes = dict.fromkeys(note for part in document["parts"] for note in part["notes"])
    return {
        "name": document["model"],
        "layers": document["layers"],
        "heads": document["heads"],
        "labels": labels,
        "notes": list(notes),
        "ablation": document["ablation"],
    }


def _measures(both: list[dict[str, Any]]) -> list[dict[str, Any]]:
    heads = sum(one["layers"] * one["heads"] for one in both)
    measures = [_measure("layer", "all", "", [[[i] * d["heads"] for i in range(d["layers"])] for d in both])]
    for key, (name, unit) in SCALARS.items():
        measures.append(_measure(name, "all", unit, [d["measures"][key] for d in both]))
    half = both[0]["quantiles"].index(0.5)
    distance = [_last(d["measures"]["distance"], half) for d in both]
    measures.append(_measure("half of the weight lies within", "all", "tokens", distance))
    for key, name in REPEATED.items():
        measures.append(_measure(f"weight on {name}, random text", "all", "share", [d["repeated"][key] for d in both]))
    offsets = sorted(range(len(both[0]["offsets"])), key=lambda i: abs(both[0]["offsets"][i]))
    for key, name in (("word_offset_weight", "weight on"), ("word_offset_best", "largest weight on")):
        for i in sorted(offsets[: max(3, MOST_VALUES // heads // 2)]):
            values = [_last(d["measures"][key], i) for d in both]
            measures.append(_measure(f"{name} {_word_at(both[0]['offsets'][i])}", "offsets", "share", values))
    for name in _relation_names(both)[: min(MOST_RELATIONS, MOST_VALUES // heads)]:
        measures.append(_measure(name, "relations", "share", [d["finds"].get(name) for d in both]))
    return measures


def _measure(name: str, group: str, unit: str, values: list) -> dict[str, Any]:
    return {"name": name, "group": group, "unit": unit, "values": [_flat(one) for one in values]}


def _flat(values: list[list[float | None]] | None) -> list[float | None]:
    return [v if v is None else round(v, 4) for row in values or [] for v in row]


def _last(values: list[list[list[float]]], i: int) -> list[list[float]]:
    return [[one[i] for one in row] for row in values]


def _word_at(offset: int) -> str:
    """
    >>> _word_at(-1), _word_at(3)
    ('the word before', '3 words after')
    """
    if offset == 0:
        return "the word itself"
    side = "before" if offset < 0 else "after"
    return f"the word {side}" if abs(offset) == 1 else f"{abs(offset)} words {side}"


def _relation_names(both: list[dict[str, Any]]) -> list[str]:
    """All relations, those first in which a head beats its baselines, then by number of questions."""
    counts = {row["relation"]: row["counts"][1] for one in reversed(both) for row in one["relations"]}
    better = {row["relation"] for one in both for row in one["relations"] if beats(row)}
    return sorted(counts, key=lambda name: (name not in better, -counts[name]))


def _relations(both: list[dict[str, Any]]) -> list[dict[str, Any]]:
    tables = [{row["relation"]: row for row in one["relations"]} for one in both]
    relations = []
    for name in _relation_names(both)[:MOST_RELATIONS]:
        rows = [table.get(name) for table in tables]
        first = next(row for row in rows if row)
        baselines = {key: first[key] for key in ("offset", "by_offset", "by_nearest", "by_same_word")}
        models = [row and {"beats": beats(row)} | _directed({key: row[key] for key in RELATION}) for row in rows]
        relations.append({"name": name, **baselines, "models": models})
    return _rounded(relations)


def _examples(document: dict[str, Any]) -> list[dict[str, Any] | None]:
    """The examples of each head, layer by layer."""
    examples: list[dict[str, Any] | None] = [None] * (document["layers"] * document["heads"])
    for one in document["examples"]:
        place = one["layer"] * document["heads"] + one["head"]
        examples[place] = _directed({key: one[key] for key in ("relation", "right", "wrong")})
    return examples


def _directed(row: dict[str, Any]) -> dict[str, Any]:
    """A row with the direction of writing of each of its texts."""
    for kind in ("right", "wrong"):
        row[kind] = [text | {"dir": direction("".join(text["words"]))} for text in row[kind]]
    return row


def _drop_examples(rows: list[dict[str, Any] | None], room: int) -> int:
    """Drops the texts of rows that exceed the room, in characters. Returns: the room that is left."""
    for row in filter(None, rows):
        size = len(json.dumps([row["right"], row["wrong"]]))
        if size > room:
            row["right"], row["wrong"] = [], []
        else:
            room -= size
    return room


def _rounded(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _rounded(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [_rounded(value) for value in values]
    return round(values, 4) if isinstance(values, float) else values
