"""Synthetic tasks: drawn at random, with known answers, known chance and a difficulty that can be set.

A name says which, with settings after a colon: `parity`, or `parity:length=1-40,test=41-200`. A range is written 1-40;
`length=40` is 40 alone. All tasks have the settings `examples`, `seed`, `by` (what accuracy is split by) and `test`,
which makes the test data harder: it replaces, for them alone, the length (of listops the depth, of agreement the
attractors). Each task's docstring draws an example. Begin with `drawing`, which all tasks share.

copying     copy, reversal, selective-copy        counting    parity, modular, adding        agreement
recall      mqar, induction                       nesting     dyck, listops
"""

from __future__ import annotations

import re
from dataclasses import fields

from sightline.tasks.synthetic.agreement import Agreement
from sightline.tasks.synthetic.copying import Copy, Reversal, SelectiveCopy
from sightline.tasks.synthetic.counting import Adding, Modular, Parity
from sightline.tasks.synthetic.drawing import Span, SyntheticTask
from sightline.tasks.synthetic.nesting import Dyck, ListOps
from sightline.tasks.synthetic.recall import Induction, Recall

FAMILIES = (Copy, SelectiveCopy, Reversal, Recall, Induction, Adding, Dyck, ListOps, Agreement, Parity, Modular)
TASKS = {family.name: family for family in FAMILIES}

__all__ = ["TASKS", "Agreement", "Span", "SyntheticTask", "synthetic_task"]


def synthetic_task(data: str) -> SyntheticTask | None:
    """The synthetic task of this name, with the settings after its colon; None if no task has this name.

    Raises: ValueError for an unknown setting or a value out of range; if there are settings, for an unknown task.

    >>> synthetic_task("copy:length=3-9,gap=2")
    Copy(examples=20000, seed=0, by='', test=None, length=Span(least=3, most=9), symbols=8, gap=2)
    >>> synthetic_task("reviews.csv") is None
    True
    """
    name, _, written = data.partition(":")
    if name not in TASKS:
        if re.fullmatch(r"[\w-]+:\w+=[^/\\]*", data):
            raise ValueError(f"{data}: expected one of {', '.join(TASKS)} before the colon, got {name}; choose one")
        return None
    family = TASKS[name]
    known = [field.name for field in fields(family)]
    settings = {}
    for pair in filter(None, written.split(",")):
        setting, equals, value = pair.partition("=")
        setting = setting.strip()
        if not equals or setting not in known or setting in settings:
            actual = f"{setting} twice" if setting in settings else pair.strip()
            raise ValueError(
                f"{name}: expected settings as in {name}:{family.harder}={getattr(family, family.harder)}, each of "
                f"{', '.join(known)} at most once, got {actual}; correct it"
            )
        settings[setting] = _value(name, setting, value.strip(), getattr(family, setting))
    return family(**settings)


def _value(name: str, setting: str, value: str, default) -> int | str | Span:
    """A setting's value from its text: a word, a whole number, or a range of whole numbers."""
    if setting == "by":
        return value
    ranged = setting == "test" or isinstance(default, Span)
    number = re.fullmatch(r"(\d{1,18})(?:-(\d{1,18}))?", value, re.ASCII)
    if number is None or (number[2] and not ranged):
        expected = "a whole number or a range such as 1-40" if ranged else "a whole number"
        raise ValueError(f"{name}: expected {setting} to be {expected}, got {value!r}; correct it")
    least = int(number[1])
    return Span(least, int(number[2] or least)) if ranged else least
