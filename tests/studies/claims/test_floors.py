"""The floors of forgetting: guesses and constants, counted by hand and on the claim's data."""

import pytest
import torch

from sightline.sequences import Sequences
from sightline.tasks import Examples, load
from studies.claims.claim import Stage
from studies.claims.floors import floor_cell, guess_hits
from studies.claims.study import Study

SMALL = "mqar:length=6-40,pairs=1-6,keys=8,values=8,examples=4000"


def test_a_guess_is_the_most_frequent_label():
    data = load(SMALL)
    ids = {token: data.tokenizer.engine.token_to_id(token) for token in ("k0", "k1", "k2", "v0", "v1", "v5")}
    rows = [ids[token] for token in "k0 v5 k1 v5 k2 v1 k2 k0".split()] + [ids[t] for t in "k0 v0 k1 v1 k1".split()]
    targets = torch.full((13,), -100)
    targets[[6, 7, 12]] = torch.tensor([1, 5, 1])  # v1, then v5; in the other v1
    hits = guess_hits(data, Examples(Sequences(torch.tensor(rows), [0, 8, 13]), targets, per_token=True))
    assert hits[[6, 7, 12]].tolist() == [0.0, 1.0, 0.5]  # v5 stands twice; of v0 and v1 one at random


def test_floors_by_distance(tmp_path):
    one = floor_cell(Study("mqar", SMALL), Stage("full"), guessable=True)
    assert one.name == "floors/mqar" and one.turn == 0
    floors = one.run(tmp_path, {})
    assert floors["guess"].keys() == {"", *floors["constant"]}
    for bucket in ("1-8", "9-32"):
        constant = floors["constant"][bucket]
        assert 0.1 < constant < 0.3 < floors["guess"][bucket] < 0.7  # of 8 values; of 1 to 6 that were shown


@pytest.mark.parametrize(
    ("data", "least", "most"),
    [("adding:length=4-20,examples=2000", 0.14, 0.2), ("agreement:attractors=0-3,by=distance,examples=2000", 0.5, 0.6)],
)
def test_constants_of_numbers_and_of_classes(data, least, most, tmp_path):
    floors = floor_cell(Study("some", data), Stage("full"), guessable=False).run(tmp_path, {})
    assert floors["guess"] == {} and len(floors["constant"]) == 2
    assert all(least < value < most for value in floors["constant"].values())
