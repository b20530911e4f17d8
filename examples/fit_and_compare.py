"""Train encoders on the same records for the same time, and see which one suits them.

python examples/fit_and_compare.py [SECONDS]
"""

import random
import sys

from rich import print

import sightline
from sightline.comparison import table

seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20
draw = random.Random(0)
words = ["the", "plot", "cast", "music", "end", "was", "and", "never", "quite"]
records = []
for _ in range(600):
    stars = draw.choice([1, 5])
    text = draw.choices(words, k=draw.randrange(3, 20))
    text[draw.randrange(len(text))] = draw.choice(["brilliant", "moving"] if stars == 5 else ["dull", "endless"])
    records.append({"review": " ".join(text), "stars": stars})
report = sightline.compare(
    records, encoders=["self-attention", "lstm", "convolution"], seconds=seconds, out="runs/example"
)
print(table(report))
