"""One pass of a model over a corpus: every head's sums, and on which questions it is right, in bounded memory.

    FOLDER/00000012-....safetensors   window 12, some thousand documents: sums and answers (see `resumable`)
    FOLDER/answers.npy                the answers of all windows, bool [questions, layers, heads]

In a window documents are sorted by length and packed. A window depends on nothing else, and windows are added in
order: after a kill, and with any number of processes, the result is the same bits. C and PyTorch round differently, so
the note of a run names the backend and the device.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from safetensors import torch as safetensors

from sightline.batching import sorted_batches
from sightline.files import replacing
from sightline.head_roles.forward_pass import ForwardPass, Pack, backend
from sightline.head_roles.gold import Corpus
from sightline.head_roles.layout import NO_QUESTIONS, Item, questions_of
from sightline.head_roles.totals import COUNTS, HEADS, Sums
from sightline.head_roles.windows import cut_to_length, rarest_word, word_counts
from sightline.models.opening import OpenModel
from sightline.models.word_pieces import WordPieces
from sightline.resumable import CHARACTERS, Run, digest, processes, read_window, windows
from sightline.training import checkpoint

WINDOW = 4096  # documents that are sorted together
SAMPLE = 64  # documents whose pieces identify the tokenizer
REPEATED, HALF = 8, 50  # random sequences, and ids in each half


@dataclass(frozen=True, eq=False)
class Measured:
    """The result of a pass over `corpus`, in which long documents are cut.

    `answers`, bool [N, L, H], a file on disk, are the questions on which each head is right; `repeated` are the sums
    over random ids that come twice; `unread` counts questions of words without pieces; `skipped` names documents that
    the model cannot take.
    """

    corpus: Corpus
    answers: ndarray
    sums: Sums
    repeated: Sums
    unread: int
    skipped: tuple[str, ...]
    note: str


def measure(
    model: OpenModel,
    corpus: Corpus,
    folder: str | Path,
    *,
    tokens: int | None = None,
    advance: Callable[[int], object] = lambda done: None,
) -> Measured:
    """Measures every head on a corpus; continues a run of the same model and corpus that was stopped.

    A document beyond the model's largest length is cut into windows of words that overlap by half. `tokens` is the
    size of a batch; `advance` is called with the number of further documents that are done.
    Raises: ValueError where the folder holds another run, or the model's attention cannot be seen.
    """
    process = processes()
    forward = ForwardPass(model)
    corpus, note = cut_to_length(model, corpus)
    counts = word_counts(corpus)
    tokens = tokens or (1536 if model.device.type == "cpu" else 16_384)
    run = Run(Path(folder), process, ".safetensors", "answers.npy")
    with run.locked():
        run.begin(*_note(model, corpus, tokens))
        count = stop = 0
        for count, documents in enumerate(windows(corpus.documents, WINDOW, lambda one: len(one.text)), 1):
            start, stop = stop, stop + len(documents)
            content = partial(_window, forward, corpus, start, stop, counts, tokens)
            run.compute(count - 1, [b"%d-%d" % (start, stop)], content)
            advance(len(documents))
        process.wait_for_everyone()
        paths = run.paths(count)
        if process.is_main_process:
            _join(paths, len(corpus), forward, run.result)
        process.wait_for_everyone()
    sums, unread, skipped = Sums.empty(forward.layers, forward.heads), 0, []
    for path in paths:  # in order, so that the same windows give the same bits
        one = safetensors.load(read_window(path))
        sums, unread = sums + Sums.of(one), unread + int(one["unread"])
        skipped += [corpus.documents[i].name for i in one["skipped"].tolist()]
    answers = np.load(run.result, mmap_mode="r" if len(corpus) else None)
    return Measured(corpus, answers, sums, repeated(forward), unread, tuple(skipped), note)


def _window(forward: ForwardPass, corpus: Corpus, start: int, stop: int, counts: Counter[str], tokens: int) -> bytes:
    """The sums and answers of some documents, as a safetensors file."""
    model, documents = forward.model, corpus.documents[start:stop]
    reads = model.read_words(documents)
    first, past = np.searchsorted(corpus.document, (start, stop)).tolist()
    sums = Sums.empty(forward.layers, forward.heads, model.device)
    answers = torch.zeros(past - first, forward.layers, forward.heads, dtype=torch.uint8, device=model.device)
    lengths, skipped = np.array([len(read.ids) for read in reads], np.int64), []
    questions, unread = questions_of(corpus, start, stop, reads)
    items = [
        Item(read, document.punctuation, rarest_word(document, read, counts), of_document)
        for document, read, of_document in zip(documents, reads, questions, strict=True)
    ]
    for batch in sorted_batches(lengths, tokens):
        fits = [i for i in batch if 0 < lengths[i] <= (model.longest or lengths[i])]
        skipped += [start + i for i in batch if i not in fits]
        if fits:
            forward(Pack([items[i] for i in fits], model.device), sums, answers)
            _trim()
    packed = np.packbits(
        answers.cpu().numpy().astype(bool).reshape(past - first, forward.layers * forward.heads), axis=1
    )
    rest = {"unread": torch.tensor(unread), "skipped": torch.tensor(sorted(skipped), dtype=torch.int64)}
    return checkpoint.as_bytes(sums.tensors | rest | {"answers": torch.from_numpy(packed)})


def repeated(forward: ForwardPass) -> Sums:
    """The sums over sequences of random ids that come twice; no id comes twice in one half.

    Source: Olsson et al. 2022, "Prefix matching score".
    """
    model, sums = forward.model, Sums.empty(forward.layers, forward.heads, forward.model.device)
    around = len(model.before) + len(model.after)
    room = HALF if model.longest is None else (model.longest - around) // 2
    half = min(HALF, room, len(model.ordinary))
    random, items, nothing = np.random.default_rng(0), [], np.zeros(0, np.int64)
    for _ in range(REPEATED if half > 0 else 0):
        ids = random.choice(model.ordinary, half, replace=False)
        ids = np.array([*model.before, *ids, *ids, *model.after], np.int64)
        special = np.ones(len(ids), bool)
        special[len(model.before) : len(model.before) + 2 * half] = False
        read = WordPieces.from_pairs(ids, special, np.zeros(len(ids), bool), nothing, nothing, 0)
        items.append(Item(read, np.zeros(0, bool), -1, NO_QUESTIONS))
    if items:
        answers = torch.zeros(0, forward.layers, forward.heads, dtype=torch.uint8, device=model.device)
        forward(Pack(items, model.device), sums, answers)
    return sums


def _trim() -> None:
    """Returns freed memory to the system, which glibc keeps where it lies between small objects."""
    if trim := getattr(ctypes.CDLL(None) if os.name == "posix" else None, "malloc_trim", None):
        trim(0)


# --- the folder of a run ---------------------------------------------------------------------------------------------


def _join(paths: list[Path], questions: int, forward: ForwardPass, result: Path) -> None:
    """Writes the answers of all windows into one file, a window at a time."""
    header = {"descr": "|b1", "fortran_order": False, "shape": (questions, forward.layers, forward.heads)}
    with replacing(result) as file:  # a memory map would count as memory
        np.lib.format.write_array_header_1_0(file, header)
        for path in paths:
            answers = safetensors.load(read_window(path))["answers"].numpy()
            if len(answers):
                file.write(np.unpackbits(answers, axis=1, count=forward.layers * forward.heads).tobytes())


def _note(model: OpenModel, corpus: Corpus, tokens: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of a run, and digests of its inputs."""
    settings = {
        "model": model.name,
        "windows": [WINDOW, CHARACTERS],
        "tokens": tokens,
        "backend": backend(model.device),
    }
    return settings, {
        "weights": digest(_of_weights(model)),
        "corpus": digest(_of_corpus(corpus)),
        "pieces": digest(_of_pieces(model, corpus)),
        "measures": sorted([*HEADS, *COUNTS]),
    }


def _of_weights(model: OpenModel) -> Iterator[bytes]:
    for name, weight in model.encoder.state_dict().items():
        sample = weight.flatten()[:: max(1, weight.numel() // 4096)].double().cpu().numpy()
        yield f"{name} {list(weight.shape)} {weight.dtype} ".encode() + sample.tobytes()


def _of_corpus(corpus: Corpus) -> Iterator[bytes]:
    for document in corpus.documents:
        ids = b"" if document.ids is None else np.asarray(document.ids).tobytes()
        mentions = np.asarray(document.mentions).tolist()
        yield json.dumps([document.spaces, document.words, mentions]).encode() + ids
    for array in (corpus.document, corpus.relation, corpus.query, corpus.keys, corpus.offsets):
        yield array.tobytes()
    yield json.dumps(corpus.relations).encode()


def _of_pieces(model: OpenModel, corpus: Corpus) -> Iterator[bytes]:
    some = corpus.documents[:SAMPLE]
    for read in model.read_words(some) if some else ():
        yield json.dumps([array.tolist() for array in (read.ids, read.pieces, read.offsets)]).encode()
