"""What people look at: pages made from finished results and observations, figures, and what a notebook shows.

page     any page: one HTML file            look      a text and what each head of a model looks at in it
inline   the data of a look                 reading   the models, and how each reads a text
wording  pieces and words                   pieces    the same, from what a tokenizer gave
answers  what a page of a long text asks    server    and how a browser is answered
notebook what was seen, in a cell           widget    and how a cell is answered
figures  for papers
"""

import sys
from types import ModuleType

from sightline.lens.notebook import watch
from sightline.lens.page import read_page, render, write_page

__all__ = ["look", "read_page", "render", "watch", "write_page"]  # noqa: F822


class _Lens(ModuleType):
    """This room, where `look` is a function, brought when it is used: it brings every kind of model, and `watch` needs none."""

    @property
    def look(self):
        from sightline.lens.look import look

        return look

    @look.setter
    def look(self, file) -> None:
        """Python would put the file of this name here, when it is imported."""


sys.modules[__name__].__class__ = _Lens
