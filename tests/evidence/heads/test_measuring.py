"""A pass over a corpus against loops over every pair of pieces; stopped, shared and damaged runs; what a model cannot take."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from naive import SPECIAL, drawn, encoder, measured, subject

from sightline.attention import FULL
from sightline.evidence.heads import measuring, reading, runs
from sightline.evidence.heads.gold import Document, Relation, asked
from sightline.evidence.heads.measuring import measure
from sightline.evidence.heads.subject import opened
from sightline.evidence.heads.words import laid, paired
from sightline.observe.calls import Call
from sightline.observe.native import library

sys.path.append(str(Path(__file__).parents[2] / "huggingface"))
import small  # noqa: E402

LONG_WORD = 25 * "x"
LENGTHS = (0, 1, 1, 2, 3, 3, 3, 5, 7, 7, 11, 13, 13, 23, 41)


def compare(found, sums, answers):
    assert found.sums["queries"] == sums["queries"] > 0
    for name, expected in sums.items():
        got = found.sums[name].numpy()
        if got.dtype == np.int64:
            assert np.array_equal(got, expected), name
        else:
            np.testing.assert_allclose(got, expected, atol=3e-5, rtol=1e-5, err_msg=name)
    assert np.array_equal(found.found, answers) and answers.any() and not answers.all()


@pytest.fixture(params=["C", "PyTorch"])
def way(request, monkeypatch):
    """Both ways to read weights; gives whether it is C."""
    if request.param == "C" and library(reading.HEADS) is None:
        pytest.skip("there is no compiler here")
    monkeypatch.setenv("SIGHTLINE_NATIVE", str(int(request.param == "C")))
    return request.param == "C"


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"window": 2}, {"key_heads": 1}], ids=str)
def test_every_measure_is_what_loops_find(options, way, tmp_path):
    corpus, reads = drawn(LENGTHS, seed=2)  # in which rounding decides nowhere which weight is largest
    toy = subject(reads, encoder(**options))
    found = measure(toy, corpus, tmp_path, tokens=40)
    compare(found, *measured(toy, corpus, reads))


def test_a_long_text_goes_in_strips(way, tmp_path, monkeypatch):
    corpus, reads = drawn((53, 1, 29, 29), seed=1)
    toy = subject(reads)
    expected = measured(toy, corpus, reads)
    for scores in (1, 500, 3000):
        monkeypatch.setattr(runs, "SCORES", scores)
        monkeypatch.setattr(reading, "ROOM", scores)
        monkeypatch.setattr("sightline.evidence.heads.packs.SCORES", scores)
        compare(measure(toy, corpus, tmp_path / str(scores)), *expected)


@pytest.mark.skipif(library(reading.HEADS) is None, reason="there is no compiler here")
def test_any_number_of_threads_gives_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "FEW", 0)
    corpus, reads = drawn((*LENGTHS, 97))
    toy, before = subject(reads, encoder(heads=5)), torch.get_num_threads()
    alone = measure(toy, corpus, tmp_path / "alone")
    try:
        for threads in (1, 3, 8):
            torch.set_num_threads(threads)
            same(measure(toy, corpus, tmp_path / str(threads)), alone)
    finally:
        torch.set_num_threads(before)


def test_what_c_does_not_know_is_left_to_pytorch():
    q = torch.zeros(3, 2, 4)
    offsets = torch.tensor([0, 3])
    call = Call(q, q, torch.zeros(3, 2), offsets, offsets, FULL, 1.0, torch.arange(2))
    assert reading.fits(call) == (library(reading.HEADS) is not None)
    assert not reading.fits(replace(call, bias=(torch.zeros(1, 3, 3),)))
    assert not reading.fits(replace(call, softcap=3.0)) and not reading.fits(replace(call, k=q.double()))


@pytest.fixture
def several(monkeypatch):
    """A corpus that is measured in several windows."""
    monkeypatch.setattr(measuring, "WINDOW", 4)
    corpus, reads = drawn(LENGTHS, seed=2)
    return corpus, subject(reads)


def same(one, other):
    assert all(torch.equal(t, other.sums[name]) for name, t in one.sums.tensors.items())
    assert np.array_equal(one.found, other.found)


def test_a_run_that_was_killed_goes_on_to_the_same_bits(several, tmp_path, monkeypatch):
    corpus, toy = several
    whole = measure(toy, corpus, tmp_path / "whole")
    ran = []

    def some(tap, corpus, start, *rest):
        ran.append(start)
        if len(ran) == 3:
            raise KeyboardInterrupt
        return window(tap, corpus, start, *rest)

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
    with pytest.raises(
        ValueError, match="expected the corpus that it was begun with, got another; give the same"
    ):
        measure(toy, corpus.take(range(5)), tmp_path)
    with pytest.raises(ValueError, match="expected the model, weights that it was begun with, got another"):
        measure(toy.at_random(1), corpus, tmp_path)
    (tmp_path / "note.json").write_text("{")
    with pytest.raises(ValueError, match="expected the note of a run of heads, got .*; remove"):
        measure(toy, corpus, tmp_path)


@pytest.mark.parametrize(
    "make", [small.bert, small.roberta, small.llama, small.gpt2, small.t5], ids=lambda f: f.__name__
)
def test_models_of_hugging_face_are_measured_as_they_run(make, tmp_path):
    from sightline.huggingface.packing import run
    from sightline.huggingface.ways import base_of

    corpus, reads = drawn((1, 3, 3, 7, 11), seed=5)
    reads = [paired(r.ids + 5, r.special, r.separator, r.word, r.pieces, r.words) for r in reads]
    toy = subject(
        reads, base_of(make()), run=lambda model, ids: run(model, ids, tokens=max(len(ids.values), 1))
    )
    found = measure(replace(toy, longest=38), corpus, tmp_path)
    sums, answers = measured(toy, corpus, reads)
    for name in ("entropy", "offset_weight", "word_offset_weight", "duplicate", "special"):
        np.testing.assert_allclose(found.sums[name], sums[name], atol=1e-4, err_msg=name)
    assert (found.found != answers).mean() < 0.01


def test_a_document_that_is_too_long_is_cut_and_a_word_that_is_too_long_is_left_out(tmp_path):
    words = [*(f"w{i}" for i in range(9)), LONG_WORD, *(f"w{i}" for i in range(10, 30))]
    text = Document("0", tuple(words), ("", *[" "] * 29))
    corpus = asked(
        [text, Document("1", (LONG_WORD,), ("",))],
        [Relation("near")],
        [(0, 0, i, i - 1) for i in range(1, 30)],
    )

    def read(documents):
        made = []
        for document in documents:
            count = [len(word) if word == LONG_WORD else 1 for word in document.words]  # pieces
            word = np.repeat(np.arange(len(count)), count)
            ids = np.array([SPECIAL, *range(len(word))]) % SPECIAL
            special = np.arange(len(ids)) == 0
            made.append(paired(ids, special, special & False, word, np.arange(len(word)) + 1, len(count)))
        return made

    toy = replace(subject([]), read=read, longest=12)
    found = measure(toy, corpus, tmp_path)
    assert found.skipped == ("1",)
    assert found.note.startswith(
        "Cut into windows that overlap by half: 2 texts of more than 12 tokens, with "
    )
    assert 0 < len(found.corpus) < len(corpus) and max(len(d.words) for d in found.corpus.documents) < 12


def test_what_has_no_attention_to_see_is_refused(tmp_path):
    corpus, reads = drawn((3,))
    toy = subject(reads, torch.nn.Linear(2, 2), run=lambda model, ids: None)
    with pytest.raises(
        ValueError, match="toy: expected attention that can be seen, got none that goes through"
    ):
        measure(toy, corpus, tmp_path)
    with pytest.raises(
        TypeError,
        match="heads: expected the folder of a model, its name on the hub, or a loaded model, got int",
    ):
        opened(3)


def test_a_piece_is_of_each_word_it_has_a_letter_of():
    places, words = (
        np.array([[0, 0], [0, 6], [6, 6], [7, 9], [8, 9]]),
        np.array([[0, 3], [3, 6], [6, 6], [7, 9]]),
    )
    read = laid(np.arange(5), places, np.arange(5) == 4, np.zeros(5, bool), words)
    assert [read.pieces[a:b].tolist() for a, b in zip(read.offsets, read.offsets[1:], strict=False)] == [
        [1],
        [1],
        [],
        [3],
    ]
    assert read.first.tolist() == [1, 1, 3, 3] and read.strips(1) == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]
    whole = paired(np.arange(4), *np.zeros((2, 4), bool), np.zeros(4, int), np.arange(4), 1)
    assert whole.strips(1) == [(0, 4)]
