"""Small made-up data in the shapes of the sets that benchmarks read, so that --smoke needs none of those.

Answers follow from single words, so that an encoder learns them in a few steps.
"""

from __future__ import annotations

import atexit
import csv
import random
import tempfile
from functools import cache
from pathlib import Path

WORDS = {
    "DET": "the a this that each".split(),
    "ADJ": "old small green naïve open late".split(),
    "NOUN": "reader café letter house river question answer garden".split(),
    "VERB": "sees finds takes writes opens".split(),
    "ADV": "often here soon".split(),
}
ORDER = ("DET", "ADJ", "NOUN", "VERB", "DET", "NOUN", "ADV")
KINDS = "Why What When Who Where How".split()  # the first word of a question says its class
INTENTS = "card_arrival lost_card exchange_rate top_up transfer pin".split()
NAMES = {"English": "son", "Spanish": "ez", "Greek": "akis"}  # how names end
PARTS = {"train": 160, "dev": 32, "test": 32}  # records


@cache
def folder() -> Path:
    """All of it, written once for this process."""
    place = tempfile.TemporaryDirectory(prefix="sightline-smoke-")
    atexit.register(place.cleanup)
    draw, root = random.Random(0), Path(place.name)
    for part, count in PARTS.items():
        _write(root / "ud-english-ewt" / f"en_{part}.conllu", "\n".join(_tree(draw) for _ in range(count)))
    for part in ("train", "test"):
        lines = (f"{draw.randrange(6)}" for _ in range(PARTS[part]))
        questions = [f"{kind} {KINDS[int(kind)]} {_phrase(draw)} ?" for kind in lines]
        _write(root / "trec" / f"TREC.{part}.all", "\n".join(questions) + "\n", "latin-1")
        rows = [draw.choice(INTENTS) for _ in range(PARTS[part])]
        with _opened(root / "banking77" / f"{part}.csv") as file:
            table = [(f"{_phrase(draw)}, {intent.replace('_', ' ')}?", intent) for intent in rows]
            csv.writer(file).writerows([("text", "category"), *table])
    for language, ending in NAMES.items():
        names = "\n".join(
            f"{draw.choice('BKLMPR')}{draw.choice('aeiouó')}{draw.choice('lmnrst')}{ending}" for _ in range(60)
        )
        _write(root / "names" / f"{language}.txt", names + "\n")
    _write(root / "tinyshakespeare" / "input.txt", "".join(f"{_phrase(draw)}.\n" for _ in range(400)))
    return root


def _write(path: Path, text: str, encoding: str = "utf-8") -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding)


def _opened(path: Path):
    path.parent.mkdir(exist_ok=True)
    return path.open("w", encoding="utf-8", newline="")


def _tags(draw: random.Random) -> list[str]:
    """Parts of speech of a sentence; lengths are spread as those of real sentences are."""
    length = min(48, max(1, round(draw.lognormvariate(2.2, 0.8))))
    return [ORDER[i % len(ORDER)] for i in range(length)]


def _phrase(draw: random.Random) -> str:
    return " ".join(draw.choice(WORDS[tag]) for tag in _tags(draw)[:12])


def _tree(draw: random.Random) -> str:
    """A sentence in CoNLL-U: determiners and adjectives hang on the next noun, all else on the first verb."""
    tags = _tags(draw)
    root = tags.index("VERB") if "VERB" in tags else len(tags) - 1
    lines = []
    for i, tag in enumerate(tags):
        noun = next((j for j in range(i + 1, len(tags)) if tags[j] == "NOUN"), root)
        name = {"DET": "det", "ADJ": "amod", "NOUN": "nsubj" if i < root else "obj", "VERB": "conj"}.get(tag, "advmod")
        head = noun if tag in ("DET", "ADJ") else root
        head, name = (0, "root") if i == root else (head + 1, name)
        word = draw.choice(WORDS[tag])
        lines.append(f"{i + 1}\t{word}\t{word}\t{tag}\t_\t_\t{head}\t{name}\t_\t_\n")
    return "".join(lines)
