"""The functions of Python's own library as a corpus: does the use of a name look at where the name is bound?

    def double ( x ) : return x + x      binding:parameter: from either x of the last line, right is the x in brackets

Gold, rules and parts are those of `scope`: these are the functions of its test part, which no model fitted to it has
learned from. A token is a word. Such a model reads `ids`, in which spelling gives nothing away; every other reads the text,
laid out again from the tokens, without comments. There the end of a line is a word too, and so are, with nothing in
them, the beginning and the end of a block; so distances are the same for both.
"""

from __future__ import annotations

import sysconfig
import tokenize
import warnings
from pathlib import Path

import numpy as np

from sightline.head_roles.gold import Corpus, Document, Relation, asked
from sightline.tasks import roles, scope

RELATIONS = tuple(Relation(f"binding:{role}") for role in roles.ROLES if role != roles.ROLES[roles.OUTSIDE])


def bindings() -> Corpus:
    """Uses of names and where these are bound, by what the name stands for.

    Raises: ValueError where Python was installed without the source of its library.
    """
    examples = scope.load()["test"]
    offsets = examples.inputs.offsets.tolist()
    spelled = _spelled(examples.texts)
    documents = []
    for number, (place, start, stop) in enumerate(zip(examples.texts, offsets, offsets[1:], strict=False)):
        ids = examples.inputs.values[start:stop].numpy()
        words, spaces = roles.words_and_spaces(spelled[place], [scope.VOCABULARY[i] for i in ids.tolist()])
        documents.append(Document(f"{place.module}.{place.qualname}", words, spaces, ids=ids, source=number))
    rows = np.flatnonzero(examples.links.numpy() >= 0)
    document = np.searchsorted(offsets, rows, "right") - 1
    pairs = [document, examples.targets.numpy()[rows], rows - np.array(offsets)[document], examples.links.numpy()[rows]]
    return asked(documents, RELATIONS, np.stack(pairs, 1))


def _spelled(places: list[scope.Place]) -> dict[scope.Place, list[str]]:
    """The tokens of functions as they are written, as `scope.spelling` has them; but each module is read once."""
    found, library = {}, Path(sysconfig.get_paths()["stdlib"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the library's source does
        for module in dict.fromkeys(place.module for place in places):
            stem = library.joinpath(*module.split("."))
            for path in filter(Path.is_file, (stem.with_suffix(".py"), stem / "__init__.py")):
                with tokenize.open(path) as file:
                    functions = roles.functions(file.read())
                found |= {scope.Place(module, f.qualname, f.line): f.spelling for f in functions}
    return {place: found.get(place) or scope.spelling(place) for place in places}
