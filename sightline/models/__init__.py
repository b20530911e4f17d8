"""From the pieces of a model to the words of a person: the one place where tokens become text.

spelling   how vocabularies write: bytes as letters, marks for blanks and for the middle of a word
words      a text, the words in it, and which pieces make which word
pieces     the same where only the tokens are left, as in a notebook
"""

from sightline.models.pieces import placed, text_of
from sightline.models.words import WORD, Text, Unit, cut, direction, isolated, shown, touched

__all__ = ["WORD", "Text", "Unit", "cut", "direction", "isolated", "placed", "shown", "text_of", "touched"]
