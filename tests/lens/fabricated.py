"""Made-up results in the shape of real ones, so that the page is tested without training anything."""

import base64
import io
import math
import random
import tokenize

import numpy as np

KINDS = ["self-attention", "convolution", "lstm", "rnn", "fully-connected"]
BUCKETS = ["1-3", "4-15", "16-63", "64-255", "256+"]

SOURCE = '''\
def shorten(text, width, *, placeholder="..."):
    """Collapse and truncate the given text."""
    words = text.split()
    kept, used = [], len(placeholder)
    for word in words:
        if used + len(word) > width:
            break
        kept.append(word)
        used += len(word) + 1
    if len(kept) < len(words):
        kept.append(placeholder)
    return " ".join(kept)
'''


def comparison(seeds=3, buckets=BUCKETS, exhibit=True) -> dict:
    """A whole report; deterministic."""
    rng = random.Random(0)
    encoders = [_encoder(kind, i, seeds, buckets, rng) for i, kind in enumerate(KINDS)]
    return {
        "version": 1,
        "title": "Five encoders on scope",
        "about": [
            "Each use of a name in a Python function is a parameter, a local, imported in the function, or comes from "
            "outside. The names are replaced by random numbers, new for each function, so only the function itself "
            "tells which."
        ],
        "measure": {"name": "accuracy", "better": "higher", "percent": True},
        "loss_name": "training loss, nats",
        "equal": ["at equal time", "at equal tokens"],
        "buckets": list(buckets),
        "distance_name": "tokens from a use to the binding of its name",
        "encoders": encoders,
        "baselines": [
            {"name": "most frequent", "value": 0.42, "distance": {b: 0.5 - 0.04 * i for i, b in enumerate(buckets)}},
            {"name": "plain rule", "value": 0.969, "distance": {b: 0.975 - 0.01 * i for i, b in enumerate(buckets)}},
        ],
        "sentences": [
            "At equal time (50 s each) self-attention is best: 91.6%, ahead of convolution by 11.0 points.",
            "At equal tokens (0.42 million) the LSTM is best: 66.1%.",
        ],
        "notes": [
            "At equal tokens: the accuracy each encoder had when it had seen as many tokens as the slowest saw in all."
        ],
        "captions": {
            "distance": "On held-out functions: the farther the binding, the harder the question.",
            "time": "Each encoder had the same seconds.",
            "tokens": "The same runs, by what they had read.",
        },
        "settings": {"seconds": 50, "seeds": "0, 1, 2", "learning rate": "3e-3"},
        "machine": {"processor": "made up", "torch": "2.13"},
        "exhibit": _exhibit() if exhibit else None,
    }


def _encoder(kind, i, seeds, buckets, rng):
    speed, top = [60e3, 95e3, 21e3, 30e3, 110e3][i], [0.916, 0.806, 0.781, 0.70, 0.62][i]
    runs = []
    for seed in range(seeds):
        loss, miles = [], []
        for step in range(1, 101):
            part = step / 100
            fall = 0.35 + (1 - top) * 2 + 0.9 * math.exp(-part * 6) + rng.gauss(0, 0.015)
            loss.append([round(50 * part, 2), int(50 * part * speed), round(fall, 4)])
        for part in (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0):
            had = 0.4 + (top - 0.4) / (1 + math.exp(-12 * (part - 0.35))) + rng.gauss(0, 0.004)
            miles.append([int(50 * part * speed), round(50 * part, 2), round(had, 4)])
        runs.append({"seed": seed, "loss": loss, "milestones": miles})

    def spread(x):
        return (
            {"median": round(x, 4), "low": round(x - 0.008, 4), "high": round(x + 0.006, 4)}
            if seeds > 1
            else {"median": round(x, 4), "low": round(x, 4), "high": round(x, 4)}
        )

    drop = [0.02, 0.09, 0.07, 0.11, 0.03][i]
    return {
        "kind": kind,
        "parameters": 152_000 + 611 * i,
        "tokens_per_second": speed,
        "steps": int(speed * 50 / 1024),
        "shown": 0,
        "time": spread(top),
        "tokens": spread(top - 0.1 * (speed / 110e3)),
        "distance": {b: spread(top + 0.06 - drop * j) for j, b in enumerate(buckets)},
        "runs": runs,
    }


def _exhibit(layers=3, heads=4):
    tokens, end = [], (1, 0)
    lines = SOURCE.splitlines(keepends=True)
    for t in tokenize.generate_tokens(io.StringIO(SOURCE).readline):
        if t.type in (tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER):
            continue
        if t.start[0] == end[0]:
            space = lines[end[0] - 1][end[1] : t.start[1]]
        else:
            space = "\n" * (t.start[0] - end[0]) + lines[t.start[0] - 1][: t.start[1]]
        tokens.append({"space": space, "text": t.string, "layout": False, "gold": None, "answer": None})
        tokens[-1] |= {"probability": None, "binding": None}
        end = t.end
    first, after_signature = {}, False
    for i, token in enumerate(tokens):
        text = token["text"]
        after_signature = after_signature or text == ":"
        if not (text.isidentifier() and after_signature and text not in ("for", "in", "if", "break", "return")):
            if text.isidentifier():
                first.setdefault(text, i)
            continue
        role = "parameter" if first.get(text, 99) < 14 else "outside" if text in ("len",) else "local"
        token |= {"gold": role, "answer": "local" if i % 17 == 0 else role, "probability": 0.93}
        if role != "outside":
            token["binding"] = first.setdefault(text, i)
    n = len(tokens)
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(layers, heads, n, n)) * 1.2
    scores += 3.0 * (np.abs(np.subtract.outer(np.arange(n), np.arange(n))) < 3)
    for i, token in enumerate(tokens):
        if token["binding"] is not None:
            scores[1, 2, i, token["binding"]] += 7.5
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    uses = [i for i, t in enumerate(tokens) if t["binding"] is not None and t["binding"] != i]
    influence = weights.mean((0, 1)) + np.eye(n)
    return {
        "about": [
            "The function textwrap.shorten, which no encoder was trained on, read by the self-attention "
            "encoder. Layer 1, head 2 is chosen: of all heads it puts most of its weight on the binding."
        ],
        "layers": layers,
        "heads": heads,
        "chosen": {"layer": 1, "head": 2},
        "start": uses[-1],
        "tokens": tokens,
        "weights": packed(weights),
        "influence": packed(influence / influence.sum(-1, keepdims=True)),
        "probes": 2,
    }


def packed(shares) -> str:
    return base64.b64encode(np.round(shares * 65535).astype("<u2").tobytes()).decode()
