"""Data that is small and can be learned: whether a review holds a good word."""

import random

import pytest


@pytest.fixture(scope="session")
def reviews_of():
    return reviews_text


@pytest.fixture
def reviews(tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text(reviews_text(200))
    return path


def reviews_text(count: int) -> str:
    draw = random.Random(0)
    rows = ["review,stars"]
    for number in range(count):
        words = [f"w{draw.randrange(30)}" for _ in range(draw.randrange(1, 12))]
        words[draw.randrange(len(words))] = draw.choice(["good", "bad"])
        rows.append(f"{' '.join(words)} n{number},{5 if 'good' in words else 1}")
    rows[7] = " ".join(["long"] * 90) + " bad,1"  # longer than a batch of the tests: alone in its batch
    return "\n".join(rows) + "\n"
