"""Vectors of texts, and the nearest text of each.

python examples/vectors_of_a_corpus.py [MODEL]
"""

import sys

from sightline.huggingface import embed

name = sys.argv[1] if len(sys.argv) > 1 else "sentence-transformers/all-MiniLM-L6-v2"
texts = [
    "A cat sat on the mat.",
    "Interest rates rose again.",
    "The kitten was sitting there.",
    "The bank raised its rates.",
]
vectors = embed(name, texts)
similar = vectors @ vectors.T
similar.fill_diagonal_(-1)
for text, nearest in zip(texts, similar.argmax(1), strict=True):
    print(f"{text:32} {texts[nearest]}")
