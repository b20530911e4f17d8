"""The sentences of the task `agreement` as a corpus: does the verb that is missing look at its subject?

    near the dogs , the key to the cabinets that saw the door ?        nsubj: from ?, right is key

Nouns of either number stand before the subject, and between it and the verb, so that neither a fixed place nor the nearest
noun will do. The sentences are those of the test part of the task, whose words a model fitted to it knows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sightline.head_roles.gold import Corpus, Document, Relation, asked
from sightline.tasks.synthetic import Agreement

SUBJECT = Relation("nsubj")


def sentences(task: Agreement) -> Corpus:
    """The test part of the task, a sentence a document, and of each its verb's subject.

    >>> corpus = sentences(Agreement(examples=20))
    >>> words = corpus.documents[0].words
    >>> " ".join(words), words[corpus.query[0]], words[corpus.keys[0]]
    ('under the pilots , the rivers that the teacher met ?', '?', 'rivers')
    """
    examples = replace(task, by="distance").parts()["test"]
    vocabulary = np.array(task.vocabulary)
    documents = []
    for i, ids in enumerate(examples.inputs):
        words = tuple(vocabulary[ids.numpy()].tolist())
        documents.append(Document(f"{task.name} {i}", words, ("", *[" "] * (len(words) - 1)), source=i))
    verb = examples.lengths.numpy() - 1
    subject = verb - examples.distances[examples.inputs.offsets[1:] - 1].numpy()
    number = np.arange(len(documents))
    return asked(documents, [SUBJECT], np.stack([number, 0 * number, verb, subject], 1))
