"""A pass over a corpus that is stopped, shared, damaged, or another's; models of others; what a model cannot take."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from sightline.attention import attention
from sightline.head_roles import measuring
from sightline.head_roles.gold import Document, Relation, build_corpus
from sightline.head_roles.measuring import measure
from sightline.models.opening import open_attention
from sightline.models.word_pieces import WordPieces
from sightline.resumable import Run
from sightline.training import checkpoint
from tests.head_roles.naive import SPECIAL, drawn, measured, subject
from tests.huggingface import small

LONG_WORD = 25 * "x"
LENGTHS = (0, 1, 1, 2, 3, 3, 3, 5, 7, 7, 11, 13, 13, 23, 41)


@pytest.fixture
def several(monkeypatch):
    """A corpus that is measured in several windows."""
    monkeypatch.setattr(measuring, "WINDOW", 4)
    corpus, reads = drawn(LENGTHS, seed=2)
    return corpus, subject(reads)


def same(one, other):
    assert all(torch.equal(t, other.sums[name]) for name, t in one.sums.tensors.items())
    assert np.array_equal(one.answers, other.answers)


def test_a_run_that_was_killed_goes_on_to_the_same_bits(several, tmp_path, monkeypatch):
    corpus, toy = several
    whole = measure(toy, corpus, tmp_path / "whole")
    ran = []

    def some(forward, corpus, start, *rest):
        ran.append(start)
        if len(ran) == 3:
            raise KeyboardInterrupt
        return window(forward, corpus, start, *rest)

    window = measuring._window
    monkeypatch.setattr(measuring, "_window", some)
    with pytest.raises(KeyboardInterrupt):
        measure(toy, corpus, tmp_path / "killed")
    same(measure(toy, corpus, tmp_path / "killed"), whole)
    assert ran == [0, 4, 8, 8, 12]  # what was finished is not done again
    same(measure(toy, corpus, tmp_path / "killed"), whole)
    assert len(ran) == 5


def test_a_run_of_something_else_is_not_gone_on_with(several, tmp_path):
    corpus, toy = several
    measure(toy, corpus, tmp_path)
    with pytest.raises(ValueError, match="it was begun with, got different corpus; different pieces; give the same"):
        measure(toy, corpus.take(range(5)), tmp_path)
    with pytest.raises(ValueError, match="got different weights; model 'toy' then, .* now; give the same"):
        measure(toy.at_random(1), corpus, tmp_path)
    mentions = [replace(document, mentions=document.mentions[1:]) for document in corpus.documents]
    with pytest.raises(ValueError, match="begun with, got different corpus; give"):
        measure(toy, replace(corpus, documents=tuple(mentions)), tmp_path)
    _, others = drawn(LENGTHS, seed=7)
    with pytest.raises(ValueError, match="begun with, got different pieces; give"):
        measure(replace(toy, read_words=subject(others).read_words), corpus, tmp_path)


@pytest.mark.parametrize(
    "text, actual",
    [
        ("{", "a note.json that is damaged"),
        ("[]", "a note.json that is damaged"),
        (None, "windows without a note.json"),
    ],
)
def test_a_folder_without_a_note_is_refused(several, tmp_path, text, actual):
    corpus, toy = several
    measure(toy, corpus, tmp_path)
    (tmp_path / "note.json").unlink()
    if text is not None:
        (tmp_path / "note.json").write_text(text)
    with pytest.raises(ValueError, match=f"expected what a run that was stopped left, got {actual}; move it away"):
        measure(toy, corpus, tmp_path)


def test_a_run_with_other_measures_or_another_backend_is_refused(several, tmp_path, monkeypatch):
    corpus, toy = several
    measure(toy, corpus, tmp_path)
    note = json.loads((tmp_path / "note.json").read_text())
    monkeypatch.setattr(measuring, "backend", lambda device: "otherwise")
    with pytest.raises(ValueError, match="begun with, got backend '.*' then, 'otherwise' now; give"):
        measure(toy, corpus, tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(measuring, "WINDOW", 4)
    note["digests"]["measures"] = note["digests"]["measures"][1:]
    (tmp_path / "note.json").write_text(json.dumps(note))
    with pytest.raises(ValueError, match="begun with, got different measures; give"):
        measure(toy, corpus, tmp_path)


@pytest.mark.parametrize("harm", ["cut short", "empty", "another"])
def test_a_damaged_window_is_computed_again(several, tmp_path, harm, monkeypatch):
    corpus, toy = several
    whole = measure(toy, corpus, tmp_path)
    (file,) = tmp_path.glob("00000001-*.safetensors")
    data = file.read_bytes()
    another = checkpoint.as_bytes({"queries": torch.zeros(2)})
    damaged = {"cut short": data[: len(data) // 2], "empty": b"", "another": another}[harm]
    file.write_bytes(damaged)
    same(measure(toy, corpus, tmp_path), whole)
    assert file.read_bytes() == data
    monkeypatch.setattr(Run, "compute", lambda *arguments: file.write_bytes(damaged))
    with pytest.raises(ValueError, match=f"{file.name}: expected what was written, .*; remove it, and the same"):
        measure(toy, corpus, tmp_path)


def test_what_is_left_is_dealt_out_to_all_processes(several, tmp_path, monkeypatch):
    corpus, toy = several
    whole = measure(toy, corpus, tmp_path)
    files = sorted(tmp_path.glob("0*.safetensors"))
    kept, ran = files[0].read_bytes(), []
    for file in files[::2]:
        file.unlink()

    class Second:
        """One of two processes, while the other measures the first of the windows that are left."""

        is_main_process, process_index, num_processes = False, 1, 2
        waited = 0

        def wait_for_everyone(self):
            self.waited += 1
            if self.waited == 3:
                files[0].write_bytes(kept)

    def one(forward, corpus, start, *rest):
        ran.append(start)
        return window(forward, corpus, start, *rest)

    window = measuring._window
    monkeypatch.setattr(measuring, "_window", one)
    monkeypatch.setattr(measuring, "processes", Second)
    same(measure(toy, corpus, tmp_path), whole)
    assert ran == [8]


@pytest.mark.parametrize(
    "make", [small.bert, small.roberta, small.llama, small.gpt2, small.t5], ids=lambda f: f.__name__
)
def test_models_of_hugging_face_are_measured_as_they_run(make, tmp_path):
    from sightline.huggingface.base_model import base_of
    from sightline.huggingface.packing import run

    corpus, reads = drawn((1, 3, 3, 7, 11), seed=5)
    reads = [WordPieces.from_pairs(r.ids + 5, r.special, r.separator, r.word, r.pieces, r.words) for r in reads]
    toy = subject(reads, base_of(make()), run=lambda model, ids: run(model, ids, tokens=max(len(ids.values), 1)))
    result = measure(replace(toy, longest=38), corpus, tmp_path)
    sums, answers = measured(toy, corpus, reads)
    for name in ("entropy", "offset_weight", "word_offset_weight", "duplicate", "special"):
        np.testing.assert_allclose(result.sums[name], sums[name], atol=1e-4, err_msg=name)
    assert (result.answers != answers).mean() < 0.01


def test_a_document_that_is_too_long_is_cut_and_a_word_that_is_too_long_is_left_out(tmp_path):
    words = [*(f"w{i}" for i in range(9)), LONG_WORD, *(f"w{i}" for i in range(10, 30))]
    text = Document("0", tuple(words), ("", *[" "] * 29))
    corpus = build_corpus(
        [text, Document("1", (LONG_WORD,), ("",))], [Relation("near")], [(0, 0, i, i - 1) for i in range(1, 30)]
    )

    def read(documents):
        reads = []
        for document in documents:
            count = [len(word) if word == LONG_WORD else 1 for word in document.words]  # pieces
            word = np.repeat(np.arange(len(count)), count)
            ids = np.array([SPECIAL, *range(len(word))]) % SPECIAL
            special = np.arange(len(ids)) == 0
            reads.append(
                WordPieces.from_pairs(ids, special, special & False, word, np.arange(len(word)) + 1, len(count))
            )
        return reads

    toy = replace(subject([]), read_words=read, longest=12)
    result = measure(toy, corpus, tmp_path)
    assert result.skipped == ("1",)
    assert result.note.startswith("Cut into windows that overlap by half: 2 texts of more than 12 tokens, with ")
    assert 0 < len(result.corpus) < len(corpus) and max(len(d.words) for d in result.corpus.documents) < 12


class Prefixed(torch.nn.Linear):
    """Attention with two more keys than there are pieces, as prefix tuning has it."""

    def forward(self, ids):
        more = 2 * torch.arange(len(ids.offsets))
        x = self.weight[torch.zeros(len(ids.values) + int(more[-1]), dtype=torch.long)][:, None]
        return attention(x[: len(ids.values)], x, x, ids.offsets, key_offsets=ids.offsets + more).out


def test_what_has_no_attention_to_see_is_refused(tmp_path):
    corpus, reads = drawn((3,))
    toy = subject(reads, torch.nn.Linear(2, 2), run=lambda model, ids: None)
    with pytest.raises(ValueError, match="toy: expected attention that can be seen, got none that goes through"):
        measure(toy, corpus, tmp_path)
    with pytest.raises(
        ValueError,
        match="toy: expected 1 layers that attend within whole documents, got calls .* keys that are no pieces",
    ):
        measure(subject(reads, Prefixed(2, 2)), corpus, tmp_path / "prefix")
    with pytest.raises(
        TypeError, match="model: expected the folder of a model, its name on the hub, or a loaded model, got int"
    ):
        open_attention(3)


def test_a_piece_is_of_each_word_it_has_a_letter_of():
    places, words = (np.array([[0, 0], [0, 6], [6, 6], [7, 9], [8, 9]]), np.array([[0, 3], [3, 6], [6, 6], [7, 9]]))
    read = WordPieces.from_spans(np.arange(5), places, np.arange(5) == 4, np.zeros(5, bool), words)
    assert [read.pieces[a:b].tolist() for a, b in zip(read.offsets, read.offsets[1:], strict=False)] == [
        [1],
        [1],
        [],
        [3],
    ]
    assert read.first.tolist() == [1, 1, 3, 3] and read.strips(1) == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]
    whole = WordPieces.from_pairs(np.arange(4), *np.zeros((2, 4), bool), np.zeros(4, int), np.arange(4), 1)
    assert whole.strips(1) == [(0, 4)]
