"""What is learned from which data: `load` reads a file, picks the task, trains the tokenizer and makes examples.

From a file to examples, in this order: `readers` (records with file and line), `columns` (which task, which columns),
`tokenizing`, `encoding`, `examples`. The tasks: `task` (their interface), classify, regress, tag, language. Built-in
data: `scope` (Python's own library) and `synthetic` (drawn at random, with known answers). Begin with `data`.
"""

from typing import Any

from sightline.tasks.classify import Classify
from sightline.tasks.data import Data, load, load_test
from sightline.tasks.encoding import encode, questions
from sightline.tasks.examples import Examples
from sightline.tasks.language import Language
from sightline.tasks.readers import read_records
from sightline.tasks.records import Record
from sightline.tasks.regress import Regress
from sightline.tasks.tag import Tag
from sightline.tasks.task import Task
from sightline.tasks.tokenizing import Tokenizer

# fmt: off
__all__ = [
    "Classify", "Data", "Examples", "Language", "Record", "Regress", "Tag", "Task", "Tokenizer",
    "encode", "load", "load_test", "questions", "read_records", "task_from_json",
]
# fmt: on


def task_from_json(saved: Any) -> Task:
    """The task from the output of `Task.to_json`.

    Raises: ValueError for anything else.

    >>> task_from_json(Classify("text", "label", ("a", "b")).to_json()).labels
    ('a', 'b')
    """
    kinds: dict[Any, Any] = {kind.name: kind for kind in (Classify, Regress, Tag, Language)}
    try:
        fields = {key: tuple(value) if isinstance(value, list) else value for key, value in saved.items()}
        return kinds[fields.pop("task")](**fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"task: expected the JSON of one of {', '.join(kinds)}, got one without it ({error}); save the model anew"
        ) from None
