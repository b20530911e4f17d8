"""Runs of a few steps on little data, shared by the tests of their folders, and the message of a refused call."""

import pytest

from sightline.training.runs import fit

SMALL = {"encoder": "lstm", "width": 8, "layers": 1, "steps": 4, "progress": False}
READ = ("config.json", "task.json", "tokenizer.json", "model.safetensors")  # to load a model
KEPT = (*READ, "checkpoint.safetensors", "metrics.jsonl", "results.json")
TEXTS = ["good", "bad w1 w2"]


def refusal(call) -> str:
    """The message of the ValueError that a call raises, which must be one sentence of bearable length."""
    with pytest.raises(ValueError) as error:
        call()
    assert "\n" not in str(error.value) and len(str(error.value)) < 700
    return str(error.value)


def resumed(run, folders):
    return fit(folders / "reviews.csv", out=run, resume=True, progress=False)
