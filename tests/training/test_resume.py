"""A run that is killed and resumed must end with the same bits as one that never was, and lose nothing on the way."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TIMES = {"seconds", "tokens_per_second"}


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_times(line):
    return {name: value for name, value in line.items() if name not in TIMES}


@pytest.mark.parametrize("moments", ["random", "saving"])
def test_killed_at_any_moment_ends_with_the_same_bits(reviews, moments):
    command = [sys.executable, str(HERE / "killed.py"), str(reviews.parent), moments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) >= 1
    whole, killed = reviews.parent / "whole", reviews.parent / "killed"
    for name in ("model.safetensors", "config.json", "task.json", "tokenizer.json", "results.json"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name
    assert [without_times(line) for line in lines(whole)] == [without_times(line) for line in lines(killed)]
    assert sorted(path.name for path in killed.iterdir()) == sorted(path.name for path in whole.iterdir())
