"""An easy setting of every synthetic task is learned by self-attention and by an LSTM, but for two, see below."""

import math

import pytest

from sightline.tasks import load
from sightline.tasks.synthetic import TASKS, synthetic_task
from sightline.training.runs import fit

QUICK = {"adding:length=4": 60, "selective-copy:length=6,marked=1": 60, "dyck:length=8,kinds=2,depth=2": 60}
STEPS = QUICK | {
    "copy:length=3,symbols=4": 200,
    "reversal:length=3,symbols=4": 200,
    "mqar:length=8,pairs=2,keys=4,values=4": 300,
    "induction:length=4,symbols=4": 300,
    "listops:depth=1": 300,
    "agreement:attractors=0-1": 200,
    "parity:length=2-6": 500,
    "modular:length=2-3,modulus=5": 400,
}
BY_HEART = ("parity", "modular")  # self-attention fits what it trains on, at a lower rate; little of it carries over


def test_every_task_is_learned():
    assert {name.partition(":")[0] for name in STEPS} == TASKS.keys()


@pytest.mark.parametrize("kind", ["self-attention", "lstm"])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in STEPS]
)
def test_it_is_learned_above_chance(name, kind, tmp_path):
    drawn, data = synthetic_task(name), load(f"{name},examples=4000")
    by_heart = drawn.name in BY_HEART and kind == "self-attention"
    rate = 2e-3 if by_heart else 5e-3
    settings = {"width": 32, "layers": 2, "tokens": 512, "evaluate_every": "100%"}
    model = fit(data, encoder=kind, steps=STEPS[name], rate=rate, out=tmp_path / "run", progress=False, **settings)
    measures = model.results["test"]
    if drawn.name == "adding":
        assert measures["mse"] < drawn.chance / 4
    elif by_heart:
        assert model.history[-1]["loss"] < -0.75 * math.log(drawn.chance)
    else:
        assert measures["accuracy"] > drawn.chance + (1 - drawn.chance) / 4
