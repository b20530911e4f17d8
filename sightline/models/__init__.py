"""Models one can look into: one door to open any of them, and the way from their pieces to a person's words.

Begin with `opening`.

spelling     how vocabularies write: bytes as letters, marks for blanks and for the middle of a word
words        a text, the words in it, and which pieces make which word
pieces       the same where only the tokens are left, as in a notebook
word_pieces  the same as arrays, for documents whose words are known
functions    Python functions as a model of `scope` reads them
opening      a run's folder, a Hugging Face folder or name, or a loaded model: how it reads, and how it is run
"""

from sightline.models.pieces import find_spans, text_of
from sightline.models.words import WORD, Text, Unit, cut, direction, isolated, overlaps, visible

__all__ = ["WORD", "Text", "Unit", "cut", "direction", "isolated", "find_spans", "visible", "text_of", "overlaps"]
