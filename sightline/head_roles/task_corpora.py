"""Two tasks of this library as corpora: the bindings of `scope`, and the subjects of `agreement`.

    def double ( x ) : return x + x      binding:parameter: from either x of the last line, right is the x in brackets

The functions of `scope` are those of its test part. A token is a word. A model fitted to `scope` reads `ids`, in which
no spelling helps; every other model reads the text, written from the tokens, without comments. The end of a line is a
word, and so are, with no letters, the beginning and the end of a block: distances are the same for both.

    near the dogs , the key to the cabinets that saw the door ?        nsubj: from ?, right is key

The sentences of `agreement` are those of its test part. Nouns of either number stand before the subject, and between it
and the missing verb, so that neither a fixed offset nor the nearest noun finds it.
"""

from __future__ import annotations

import sysconfig
import tokenize
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from sightline.head_roles.gold import Corpus, Document, Relation, build_corpus
from sightline.tasks import roles, scope
from sightline.tasks.synthetic import Agreement

BINDINGS = tuple(Relation(f"binding:{role}") for role in roles.ROLES if role != roles.ROLES[roles.OUTSIDE])
SUBJECT = Relation("nsubj")


def bindings() -> Corpus:
    """Uses of names in Python's own library, and where each is bound, by what the name stands for.

    Raises: ValueError where Python was installed without the source of its library.
    """
    examples = scope.load()["test"]
    offsets = examples.inputs.offsets.tolist()
    spellings = _spellings(examples.texts)
    documents = []
    for number, (place, start, stop) in enumerate(zip(examples.texts, offsets, offsets[1:], strict=False)):
        ids = examples.inputs.values[start:stop].numpy()
        words, spaces = roles.words_and_spaces(spellings[place], [scope.VOCABULARY[i] for i in ids.tolist()])
        documents.append(Document(f"{place.module}.{place.qualname}", words, spaces, ids=ids, source=number))
    rows = np.flatnonzero(examples.links.numpy() >= 0)
    document = np.searchsorted(offsets, rows, "right") - 1
    query, key = rows - np.array(offsets)[document], examples.links.numpy()[rows]
    return build_corpus(documents, BINDINGS, np.stack([document, examples.targets.numpy()[rows], query, key], 1))


def _spellings(places: list[scope.Place]) -> dict[scope.Place, list[str]]:
    """The tokens of functions as they are written, like `scope.spelling`, but each module is read once."""
    spellings, library = {}, Path(sysconfig.get_paths()["stdlib"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library's source
        for module in dict.fromkeys(place.module for place in places):
            stem = library.joinpath(*module.split("."))
            for path in filter(Path.is_file, (stem.with_suffix(".py"), stem / "__init__.py")):
                with tokenize.open(path) as file:
                    functions = roles.functions(file.read())
                spellings |= {scope.Place(module, f.qualname, f.line): f.spelling for f in functions}
    return {place: spellings.get(place) or scope.spelling(place) for place in places}


def subjects(task: Agreement) -> Corpus:
    """The sentences of the test part of the task, each with the subject of its verb.

    >>> corpus = subjects(Agreement(examples=20))
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
    return build_corpus(documents, [SUBJECT], np.stack([number, 0 * number, verb, subject], 1))
