"""What people look at: pages made from finished results and observations.

page     any page: one HTML file            look      a text and what each head of a model looks at in it
inline   the data of a look                 reading   the models, and how each reads a text
wording  pieces and words
"""

from sightline.lens.look import look
from sightline.lens.page import read_page, render, write_page

__all__ = ["look", "read_page", "render", "write_page"]
