"""A pass over a corpus against loops over every pair of pieces; stopped, shared and damaged runs; what a model cannot take."""

import numpy as np
import pytest
from naive import drawn, encoder, measured, subject

from sightline.evidence.heads import runs
from sightline.evidence.heads.measuring import measure

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


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"window": 2}, {"key_heads": 1}], ids=str)
def test_every_measure_is_what_loops_find(options, tmp_path):
    corpus, reads = drawn(LENGTHS, seed=2)  # in which rounding decides nowhere which weight is largest
    toy = subject(reads, encoder(**options))
    found = measure(toy, corpus, tmp_path, tokens=40)
    compare(found, *measured(toy, corpus, reads))


def test_a_long_text_goes_in_strips(tmp_path, monkeypatch):
    corpus, reads = drawn((53, 1, 29, 29), seed=1)
    toy = subject(reads)
    expected = measured(toy, corpus, reads)
    for scores in (1, 500, 3000):
        monkeypatch.setattr(runs, "SCORES", scores)
        monkeypatch.setattr("sightline.evidence.heads.packs.SCORES", scores)
        compare(measure(toy, corpus, tmp_path / str(scores)), *expected)
