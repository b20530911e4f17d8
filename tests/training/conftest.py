"""Data that is small and can be learned: whether a review holds a good word."""

import random
import shutil

import pytest

from sightline.training.runs import fit
from tests.training.small_runs import SMALL


@pytest.fixture
def reviews(tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text(reviews_text(200))
    return path


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """A folder with data and two runs on them, of different seeds; no test changes it."""
    base = tmp_path_factory.mktemp("runs")
    (base / "reviews.csv").write_text(reviews_text(60))
    for seed, name in enumerate(("first", "second")):
        fit(base / "reviews.csv", out=base / name, seed=seed, **SMALL)
    return base


@pytest.fixture
def run(folders, tmp_path):
    """A copy of the first run."""
    return shutil.copytree(folders / "first", tmp_path / "run")


def reviews_text(count: int) -> str:
    draw = random.Random(0)
    rows = ["review,stars"]
    for number in range(count):
        words = [f"w{draw.randrange(30)}" for _ in range(draw.randrange(1, 12))]
        words[draw.randrange(len(words))] = draw.choice(["good", "bad"])
        rows.append(f"{' '.join(words)} n{number},{5 if 'good' in words else 1}")
    rows[7] = " ".join(["long"] * 90) + " bad,1"  # longer than a batch of the tests: alone in its batch
    return "\n".join(rows) + "\n"
