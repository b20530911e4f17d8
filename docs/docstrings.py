"""Lays docstrings out for the site: each part on a line of its own, examples as code."""

import re

import griffe

PARTS = re.compile(r"^(Shapes|Units|Returns|Raises|Source):", re.MULTILINE)
EXAMPLE = re.compile(r"^>>> .*?(?=\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)


class Docstrings(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **_) -> None:
        if obj.docstring:
            text = EXAMPLE.sub(lambda example: f"```pycon\n{example[0]}\n```", obj.docstring.value)
            obj.docstring.value = PARTS.sub(r"\n**\1:**", text)
