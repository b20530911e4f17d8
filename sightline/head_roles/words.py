"""Aliases of `sightline.models.word_pieces`, until every use has its new name."""

from sightline.models.word_pieces import WordPieces

Read = WordPieces  # alias
laid = WordPieces.from_spans  # alias
paired = WordPieces.from_pairs  # alias
