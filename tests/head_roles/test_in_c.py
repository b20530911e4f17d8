"""Sums in C, with wide and with narrow vectors, and in PyTorch: those of loops over every pair of pieces."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sightline.attention import FULL
from sightline.head_roles import layout, runs
from sightline.head_roles.measuring import measure
from sightline.kernels import head_sums
from sightline.kernels import toolchain as compiling
from sightline.kernels.toolchain import library
from sightline.models.word_pieces import WordPieces
from sightline.observe.calls import Call
from tests.head_roles.naive import SPECIAL, drawn, encoder, measured, subject

LENGTHS = (0, 1, 1, 2, 3, 3, 3, 5, 7, 7, 11, 13, 13, 23, 41)
PANELS = (8, 16, 48, 96)  # pieces that fill panels of any vectors, to the last key


def compare(result, sums, answers):
    assert result.sums["queries"] == sums["queries"] > 0
    for name, expected in sums.items():
        actual = result.sums[name].numpy()
        if actual.dtype == np.int64:
            assert np.array_equal(actual, expected), name
        else:
            np.testing.assert_allclose(actual, expected, atol=3e-5, rtol=1e-5, err_msg=name)
    assert np.array_equal(result.answers, answers) and answers.any() and not answers.all()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A folder for what is compiled for narrow vectors."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(params=["C", "narrow C", "PyTorch"])
def backend(request, monkeypatch, cache):
    """Each backend in turn, by name."""
    narrow = ["-O1", *(flag for flag in compiling.FLAGS if flag not in ("-O3", "-march=native"))]
    if request.param == "narrow C":
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
        monkeypatch.setattr(compiling, "FLAGS", narrow)
        compiling._library.cache_clear()
    if request.param != "PyTorch" and library(head_sums.HEAD_SUMS) is None:
        pytest.skip("there is no compiler here")
    monkeypatch.setenv("SIGHTLINE_NATIVE", str(int(request.param != "PyTorch")))
    yield request.param
    if request.param == "narrow C":
        compiling._library.cache_clear()


EXPECTED = {}  # results of the loops, which are slow: the same for each backend


def once(name, *arguments):
    if name not in EXPECTED:
        EXPECTED[name] = measured(*arguments)
    return EXPECTED[name]


def same(one, other):
    assert all(torch.equal(t, other.sums[name]) for name, t in one.sums.tensors.items())
    assert np.array_equal(one.answers, other.answers)


OPTIONS = [{}, {"causal": True}, {"window": 2}, {"key_heads": 1}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_measure_is_what_loops_find(options, backend, tmp_path):
    corpus, reads = drawn(LENGTHS, seed=2)  # in which rounding decides nowhere which weight is largest
    toy = subject(reads, encoder(**options))
    result = measure(toy, corpus, tmp_path, tokens=40)
    compare(result, *once(f"every {options}", toy, corpus, reads))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_long_text_goes_in_strips(options, backend, tmp_path, monkeypatch):
    corpus, reads = drawn((41, 1, 23, 23), seed=1)
    toy = subject(reads, encoder(**options))
    expected = once(str(options), toy, corpus, reads)
    for scores, rows in ((1, 1), (500, 1), (3000, 16)):
        monkeypatch.setattr(runs, "SCORES", scores)
        monkeypatch.setattr(layout, "STRIP_SIZE", scores)
        monkeypatch.setattr(layout, "STRIP_ROWS", rows)
        compare(measure(toy, corpus, tmp_path / str(scores)), *expected)


def test_texts_that_fill_the_vectors_to_the_last_key(backend, tmp_path):
    corpus, reads = drawn([n // 2 for n in PANELS], seed=1)
    reads = [filled(read, n) for read, n in zip(reads, PANELS, strict=True)]
    toy = subject(reads)
    compare(measure(toy, corpus, tmp_path), *once("full", toy, corpus, reads))


def filled(read, n):
    """The same with ordinary pieces of no word before it, as many as make it n."""
    more = n - len(read.ids)
    ids, special = (np.append(np.arange(more) % SPECIAL, read.ids), np.append(np.zeros(more, bool), read.special))
    return WordPieces.from_pairs(ids, special, special & False, read.word, read.pieces + more, read.words)


def test_pieces_that_fall_from_word_to_word(backend, tmp_path, monkeypatch):
    """No known tokenizer makes these; a user's own reader may."""
    corpus, reads = drawn((31, 17), seed=1)
    reads = [falling(read) for read in reads]
    toy = subject(reads)
    monkeypatch.setattr(runs, "SCORES", 1)
    monkeypatch.setattr(layout, "STRIP_SIZE", 1)
    monkeypatch.setattr(layout, "STRIP_ROWS", 1)
    assert all(len(read.strips(1)) > 3 for read in reads)
    compare(measure(toy, corpus, tmp_path), *once("falling", toy, corpus, reads))


def falling(read):
    """The same with the pieces of words turned round, five at a time."""
    low, high = read.pieces.min(), read.pieces.max() + 1
    turned = np.concatenate([np.arange(i, min(i + 5, high))[::-1] for i in range(low, high, 5)])
    return WordPieces.from_pairs(
        read.ids, read.special, read.separator, read.word, turned[read.pieces - low], read.words
    )


def test_a_strip_has_as_many_rows_as_are_computed():
    n = 70_001
    word = np.arange(n)
    read = WordPieces.from_pairs(word, np.zeros(n, bool), np.zeros(n, bool), word, word, n)
    strips = layout._strips(read)
    assert {stop - start for start, stop, *_ in strips[:-1]} == {16} and strips[-1][1] == n


@pytest.mark.skipif(library(head_sums.HEAD_SUMS) is None, reason="there is no compiler here")
def test_any_number_of_threads_gives_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(head_sums, "FEW", 0)
    corpus, reads = drawn((*LENGTHS, 97))
    toy, before = subject(reads, encoder(heads=5)), torch.get_num_threads()
    torch.set_num_threads(1)  # the model's own products may round in another way with more; sums in C may not
    try:
        alone = measure(toy, corpus, tmp_path / "alone")
        for threads in (2, 3, 8):
            monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
            same(measure(toy, corpus, tmp_path / str(threads)), alone)
    finally:
        torch.set_num_threads(before)


def test_what_c_does_not_know_is_left_to_pytorch():
    q = torch.zeros(3, 2, 4)
    offsets = torch.tensor([0, 3])
    call = Call(q, q, torch.zeros(3, 2), offsets, offsets, FULL, 1.0, torch.arange(2))
    assert head_sums.fits(call) == (library(head_sums.HEAD_SUMS) is not None)
    assert not head_sums.fits(replace(call, bias=(torch.zeros(1, 3, 3),)))
    assert not head_sums.fits(replace(call, softcap=3.0)) and not head_sums.fits(replace(call, k=q.double()))
