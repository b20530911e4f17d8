"""One pass of a model over a corpus: every head's sums, and whether it answers each question, in memory that does not grow.

    FOLDER/note.json                  model, corpus and the way weights are read, which must agree when a run goes on
    FOLDER/00000012.safetensors       window 12, some thousand documents: its sums, and its answers
    FOLDER/found.npy                  the answers of all windows, bool [questions, layers, heads]

In a window documents are sorted by length and packed. What a window gives depends on nothing else, and windows are added in
their order: after a kill, and with any number of processes, the same bits come out. Weights read in C and by PyTorch agree but
for rounding, so the note says which it was, and on what device.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from sightline.batching import sorted_batches
from sightline.head_roles.forward_pass import Pack, Tap
from sightline.head_roles.gold import Corpus
from sightline.head_roles.layout import Item, Unasked
from sightline.head_roles.native import way
from sightline.head_roles.subject import Subject
from sightline.head_roles.totals import COUNTS, HEADS, Sums
from sightline.head_roles.windows import asked_of, fitted, rarest, rarity
from sightline.head_roles.words import paired
from sightline.training import checkpoint
from sightline.training.loop import processes

WINDOW, CHARACTERS = 4096, 1_000_000  # documents, or letters, that are sorted together
NOTE, FOUND = "note.json", "found.npy"
REST = ("answers", "unread", "skipped")  # of a window, beside its sums
SAMPLE = 64  # texts that show which tokenizer there is
REPEATED, HALF = 8, 50  # random sequences, and their ids before they come again


@dataclass(frozen=True, eq=False)
class Measured:
    """What a pass has found: `found`, bool [N, L, H], over the questions of `corpus`, which may have been cut; it lies on disk.

    `repeated` are the sums over random ids that come twice; `unread` counts questions of words that have no pieces; `skipped`
    names documents that the model cannot take.
    """

    corpus: Corpus
    found: ndarray
    sums: Sums
    repeated: Sums
    unread: int
    skipped: tuple[str, ...]
    note: str


def measure(
    subject: Subject,
    corpus: Corpus,
    folder: str | Path,
    *,
    tokens: int | None = None,
    advance: Callable[[int], object] = lambda done: None,
) -> Measured:
    """Measures every head on a corpus; goes on where a run of the same model and corpus was stopped.

    A document that is longer than the model takes is cut into windows of words that overlap by half. `tokens` is the size of
    a batch; `advance` hears how many more documents are done.
    Raises: ValueError where the folder holds a run of something else, or the model's attention cannot be seen.
    """
    folder, process = Path(folder), processes()
    checkpoint.make_folder(folder)
    tap = Tap(subject)
    corpus, note = fitted(subject, corpus)
    counts = rarity(corpus)
    tokens = tokens or (1536 if subject.device.type == "cpu" else 16_384)
    if process.is_main_process:
        _agree(folder, subject, corpus, tokens)
    process.wait_for_everyone()
    parts = list(windows(corpus))
    mine = _open(folder, len(parts))[process.process_index :: process.num_processes]
    process.wait_for_everyone()  # until all have looked, none adds a window
    for number, (start, stop) in enumerate(parts):
        if number in mine:
            made = _window(tap, corpus, start, stop, counts, tokens)
            checkpoint.write_files(folder, {_file(folder, number).name: checkpoint.as_bytes(made)})
        advance(stop - start)
    process.wait_for_everyone()
    if process.is_main_process:
        _join(folder, len(parts), len(corpus), tap)
    process.wait_for_everyone()
    sums, unread, skipped = Sums.empty(tap.layers, tap.heads), 0, []
    for number in range(len(parts)):  # in this order, so that the same parts give the same bits
        one = _read(folder, number)
        sums, unread = sums + Sums.of(one), unread + int(one["unread"])
        skipped += [corpus.documents[i].name for i in one["skipped"].tolist()]
    found = np.load(folder / FOUND, mmap_mode="r" if len(corpus) else None)
    return Measured(corpus, found, sums, repeated(tap), unread, tuple(skipped), note)


def windows(corpus: Corpus) -> Iterator[tuple[int, int]]:
    """Documents, from and past, that are sorted and packed together."""
    start = letters = 0
    for number, document in enumerate(corpus.documents, 1):
        letters += len(document.text)
        if number - start == WINDOW or letters >= CHARACTERS:
            yield start, number
            start, letters = number, 0
    if start < len(corpus.documents):
        yield start, len(corpus.documents)


def _window(tap: Tap, corpus: Corpus, start: int, stop: int, counts: Counter[str], tokens: int) -> dict[str, Tensor]:
    """The sums and answers of some documents."""
    subject, documents = tap.subject, corpus.documents[start:stop]
    reads = subject.read(documents)
    first, past = np.searchsorted(corpus.document, (start, stop)).tolist()
    sums = Sums.empty(tap.layers, tap.heads, subject.device)
    answers = torch.zeros(past - first, tap.layers, tap.heads, dtype=torch.uint8, device=subject.device)
    lengths, skipped, unread = np.array([len(read.ids) for read in reads], np.int64), [], 0
    items = []
    for i, (document, read) in enumerate(zip(documents, reads, strict=True)):
        asked, missing = asked_of(corpus, start + i, first, read)
        unread += missing
        items.append(Item(read, document.punctuation, rarest(document, read, counts), asked))
    for batch in sorted_batches(lengths, tokens):
        fits = [i for i in batch if 0 < lengths[i] <= (subject.longest or lengths[i])]
        skipped += [start + i for i in batch if i not in fits]
        if fits:
            tap(Pack([items[i] for i in fits], subject.device), sums, answers)
            _give_back()
    packed = np.packbits(answers.cpu().numpy().astype(bool).reshape(past - first, tap.layers * tap.heads), axis=1)
    rest = {"unread": torch.tensor(unread), "skipped": torch.tensor(sorted(skipped), dtype=torch.int64)}
    return sums.tensors | rest | {"answers": torch.from_numpy(packed)}


def repeated(tap: Tap) -> Sums:
    """The sums over sequences of random ids that come twice; no id comes twice in one half.

    Source: Olsson et al. 2022, "Prefix matching score".
    """
    subject, sums = tap.subject, Sums.empty(tap.layers, tap.heads, tap.subject.device)
    around = len(subject.before) + len(subject.after)
    room = HALF if subject.longest is None else (subject.longest - around) // 2
    half = min(HALF, room, len(subject.ordinary))
    random, items = np.random.default_rng(0), []
    for _ in range(REPEATED if half > 0 else 0):
        ids = random.choice(subject.ordinary, half, replace=False)
        ids = np.array([*subject.before, *ids, *ids, *subject.after], np.int64)
        special = np.ones(len(ids), bool)
        special[len(subject.before) : len(subject.before) + 2 * half] = False
        read = paired(ids, special, np.zeros(len(ids), bool), *np.zeros((2, 0), np.int64), 0)
        items.append(Item(read, np.zeros(0, bool), -1, Unasked))
    if items:
        answers = torch.zeros(0, tap.layers, tap.heads, dtype=torch.uint8, device=subject.device)
        tap(Pack(items, subject.device), sums, answers)
    return sums


def _give_back() -> None:
    """Freed memory goes back to the system, where glibc would keep what lies between small things that stay."""
    if trim := getattr(ctypes.CDLL(None) if os.name == "posix" else None, "malloc_trim", None):
        trim(0)


# --- the folder of what is done -----------------------------------------------------------------------------------------


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}.safetensors"


def _open(folder: Path, parts: int) -> list[int]:
    """The windows that are not done."""
    return [number for number in range(parts) if not _file(folder, number).exists()]


def _read(folder: Path, number: int) -> dict[str, Tensor]:
    file = _file(folder, number)
    try:
        tensors = checkpoint.read_tensors(file)[0]
    except ValueError:
        tensors = {}
    if tensors.keys() != {*HEADS, *COUNTS, *REST}:
        raise ValueError(
            f"{file}: expected the sums and answers of a window, got a file cut short or damaged; remove it, and run again"
        )
    return tensors


def _join(folder: Path, parts: int, questions: int, tap: Tap) -> None:
    """Writes the answers of all windows into one file, a window at a time."""
    aside, size = folder / f"{FOUND}.partial", tap.layers * tap.heads
    header = {"descr": "|b1", "fortran_order": False, "shape": (questions, tap.layers, tap.heads)}
    with open(aside, "wb") as file:  # a memory map would count as memory
        np.lib.format.write_array_header_1_0(file, header)
        for number in range(parts):
            answers = _read(folder, number)["answers"].numpy()
            if len(answers):
                file.write(np.unpackbits(answers, axis=1, count=size).tobytes())
    aside.replace(folder / FOUND)


def _agree(folder: Path, subject: Subject, corpus: Corpus, tokens: int) -> None:
    """Leaves a note of what is done here, or checks it against the one that is there."""
    note = {
        "model": subject.name,
        "weights": _digest(_of_weights(subject)),
        "corpus": _digest(_of_corpus(corpus)),
        "pieces": _digest(_of_pieces(subject, corpus)),
        "measures": sorted([*HEADS, *COUNTS]),
        "settings": [WINDOW, CHARACTERS, tokens],
        "way": way(subject.device),
    }
    path = folder / NOTE
    try:
        before = json.loads(path.read_text("utf-8")) if path.exists() else None
    except (OSError, ValueError) as error:
        before = str(error)
    if before is None and not any(folder.glob("[0-9]" * 8 + ".safetensors")):
        checkpoint.write_files(folder, {NOTE: json.dumps(note, indent=1).encode()})
    elif not isinstance(before, dict):
        came = before if isinstance(before, str) else "none beside its windows" if before is None else "another file"
        raise ValueError(f"{path}: expected the note of a run of heads, got {came}; remove {folder}, or name another")
    elif other := [name for name in note if before.get(name) != note[name]]:
        raise ValueError(
            f"{folder}: expected the {', '.join(other)} that it was begun with, got another; give the same, or name another folder"
        )


def _of_weights(subject: Subject) -> Iterator[bytes]:
    for name, weight in subject.model.state_dict().items():
        some = weight.flatten()[:: max(1, weight.numel() // 4096)].double().cpu().numpy()
        yield f"{name} {list(weight.shape)} {weight.dtype} ".encode() + some.tobytes()


def _of_corpus(corpus: Corpus) -> Iterator[bytes]:
    for document in corpus.documents:
        ids = b"" if document.ids is None else np.asarray(document.ids).tobytes()
        mentions = np.asarray(document.mentions).tolist()
        yield json.dumps([document.spaces, document.words, mentions]).encode() + ids
    for array in (corpus.document, corpus.relation, corpus.query, corpus.keys, corpus.offsets):
        yield array.tobytes()
    yield json.dumps(corpus.relations).encode()


def _of_pieces(subject: Subject, corpus: Corpus) -> Iterator[bytes]:
    some = corpus.documents[:SAMPLE]
    for read in subject.read(some) if some else ():
        yield json.dumps([array.tolist() for array in (read.ids, read.pieces, read.offsets)]).encode()


def _digest(parts: Iterator[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
