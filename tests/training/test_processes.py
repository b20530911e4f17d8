"""Two processes must train as one does: the same loss at each step, and either can go on where the other stopped."""

import json
import subprocess
import sys
from pathlib import Path

import torch

from sightline.training.runs import fit
from tests.training.together import SETTINGS

TOLERANCE = 1e-5  # of the loss at each step; sums over processes are in another order


def losses(history):
    return torch.tensor([line["loss"] for line in history], dtype=torch.float64)


def test_two_processes_train_as_one_and_one_goes_on_for_two(reviews):
    folder = reviews.parent
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    script = str(Path(__file__).with_name("together.py"))
    done = subprocess.run([*torchrun, script, str(folder)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    weights = [line for line in done.stdout.splitlines() if line.startswith("weights")]
    assert len(weights) == 2 and weights[0] == weights[1]  # both processes end with the same

    alone = fit(reviews, out=folder / "one", **SETTINGS)
    resumed = fit(reviews, out=folder / "half", resume=True, **SETTINGS)
    assert len(alone.history) == SETTINGS["steps"]
    together = [json.loads(line) for line in (folder / "two" / "metrics.jsonl").read_text().splitlines()]
    for history in (together, resumed.history):
        torch.testing.assert_close(losses(history), losses(alone.history), rtol=0, atol=TOLERANCE)
        assert [line["tokens"] for line in history] == [line["tokens"] for line in alone.history]
        assert [line.get("valid", {}).keys() for line in history] == [
            line.get("valid", {}).keys() for line in alone.history
        ]
    assert "long " * 9 in reviews.read_text()  # a batch of one sequence: one process had nothing to do
    assert 91 in [b["tokens"] - a["tokens"] for a, b in zip(alone.history, alone.history[1:], strict=False)]
