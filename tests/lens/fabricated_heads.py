"""Made-up reports on heads in the shape of real ones, so that their page is tested without measuring anything."""

import random

from sightline.head_roles.page_data import SCALARS

OFFSETS = list(range(-10, 11))
RELATIONS = ("nsubj", "nsubj<-", "det", "coref:pronoun", "vocative")
SENTENCE = ("The", "old", "dog", "that", "barked", "is", "n't", "tired", ".")
SPACES = ("", " ", " ", " ", " ", " ", "", " ", "")


def report(model="made/up", layers=3, heads=4, relations=RELATIONS, seed=0, words="0", ablation=False):
    """A whole heads.json; deterministic. Head 1.2 is syntactic, 0.1 looks at the word before."""
    rng = random.Random(seed)

    def each(make):
        return [[make() for _ in range(heads)] for _ in range(layers)]

    def part():
        return round(rng.random(), 4)

    rows = [_relation(name, i, layers, heads, rng) for i, name in enumerate(relations)]
    positional = each(lambda: 0)
    positional[0][1] = -1
    return {
        "format": "sightline heads",
        "version": 1,
        "model": model,
        "layers": layers,
        "heads": heads,
        "corpus": words,
        "parts": [{"documents": 20, "words": 500, "pieces": 700, "questions": 90, "notes": ["Left out: 2 texts."]}] * 2,
        "relations": rows,
        "finds": {name: each(part) for name in relations},
        "examples": [
            {"relation": relations[0], "layer": layer, "head": head, **texts(rng)}
            for layer in range(layers)
            for head in range(heads)
        ]
        if relations
        else [],
        "syntactic": [{"layer": 1, "head": 2, "relations": list(relations[:2])}],
        "positional": positional,
        "measures": {name: each(part) for name in SCALARS}
        | {name: each(lambda: [part() for _ in OFFSETS]) for name in ("offset_weight", "offset_best")}
        | {name: each(lambda: [part() for _ in OFFSETS]) for name in ("word_offset_weight", "word_offset_best")}
        | {"distance": each(lambda: [1.0, 4.0, rng.randrange(9, 60)])},
        "repeated": {name: each(part) for name in ("duplicate", "induction")},
        "offsets": OFFSETS,
        "quantiles": [0.1, 0.5, 0.9],
        "ablation": _ablation() if ablation else None,
    }


def _relation(name, i, layers, heads, rng):
    accuracy = round(max(0.9 - 0.15 * i, 0.1), 4)
    few = name == "vocative"
    return {
        "relation": name,
        "layer": min(i, layers - 1),
        "head": i % heads,
        "counts": [max(500 - 100 * i, 20), max(400 - 90 * i, 20)],
        "chosen_at": accuracy,
        "accuracy": accuracy,
        "interval": None if few else [accuracy - 0.05, accuracy + 0.04],
        "offset": -1 - i,
        "by_offset": 0.35 + 0.02 * i,
        "ahead": None if few else [0.1, 0.2],
        "by_nearest": 0.2,
        "by_same_word": 0.6 if name.startswith("coref") else 0.0,
        "random": 0.08,
        "distances": [[1, 1, 300, 0.9], [3, 5, 80, 0.6], [101, None, 2, 0.5]],
        "note": "in 2 documents only, too few for an interval" if few else "",
        **texts(rng),
    }


def texts(rng):
    """Two in which it is right, one in which it is wrong."""

    def text(query, key, weight):
        links = [[key, weight], [query, 0.1], [8, 0.05]]
        return {
            "name": f"made-up:{rng.randrange(99)}",
            "words": list(SENTENCE),
            "spaces": list(SPACES),
            "query": query,
            "keys": [2],
            "weight": weight,
            "links": sorted(links, key=lambda one: -one[1]),
        }

    return {"right": [text(0, 2, 0.8), text(7, 2, 0.4)], "wrong": [text(4, 3, 0.6)]}


def _ablation():
    whole = {"accuracy": 0.9, "accuracy@1-8": 0.95, "accuracy@129+": 0.7}
    less = {"accuracy": 0.81, "accuracy@1-8": 0.94, "accuracy@129+": 0.3}
    others = {"accuracy": 0.89, "accuracy@1-8": 0.94, "accuracy@129+": 0.69}
    rows = [
        {"layer": 1, "head": 1, "relations": ["binding"], "without": less, "others": others},
        {"layer": 0, "head": 0, "relations": ["binding:local"], "without": others, "others": None},
    ]
    return {"measure": "accuracy", "texts": 533, "whole": whole, "heads": rows}
