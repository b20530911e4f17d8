"""Dependencies and coreference of CoNLL-U files, as questions about the words that a model reads.

    3-4  didn't  _     _    _   ...       one stretch of text that is two words: cut as the words are spelled
    3    did     do    AUX  ... 5  aux
    4    n't     not   PART ... 5  advmod
    5-6  du      _     _    _   ...       not spelled as its words, de and le: one word for the model, which has the
    5    de      de    ADP  ... 7  case   questions of both; a link between the two is dropped
    6    le      le    DET  ... 7  det

A document is a sentence; for coreference it is the text from one `# newdoc` to the next. A blank separates words,
except after `SpaceAfter=No`. Relations keep their names, `nmod:poss` apart from `nmod`; the root has no question.
Empty nodes (1.1) are not in the text: they are left out, with mentions that hold nothing else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sightline.head_roles import coreference
from sightline.head_roles.coreference import Mention
from sightline.head_roles.gold import Corpus, Document, Relation, build_corpus
from sightline.tasks import conllu
from sightline.textfiles import read_lines, read_text

RANGE = re.compile(r"(\d+)-(\d+)")
BRACKET = re.compile(r"\([^()]+\)?|[^()]+\)")  # (e1-person, (e1-person) and e1)
PART = re.compile(r"(.*)\[(\d+)/(\d+)\]")  # of a mention in several pieces


@dataclass
class _Sentence:
    """The words of one sentence, counted from 0; a head of -1 is the root, or unknown."""

    name: str  # of the file
    line: int
    begins: bool  # a document
    words: list[conllu.Row] = field(default_factory=list)
    heads: list[int] = field(default_factory=list)
    blank_after: list[bool] = field(default_factory=list)
    ranges: list[tuple[int, int, str, bool]] = field(default_factory=list)  # first, last, form, blank after
    entities: list[tuple[int, int, int, str]] = field(default_factory=list)  # opens at, closes at, line, brackets

    def model_words(self) -> tuple[list[str], list[str], list[int]]:
        """The words that a model reads, the space before each, and the place of each word of the tree among them."""
        forms, words, spaces, places, before = [word.form for word in self.words], [], [], [], ""
        ranges = {first: (last + 1, surface, blank) for first, last, surface, blank in self.ranges}
        at = 0
        while at < len(forms):
            stop, surface, after = ranges.get(at, (at + 1, forms[at], self.blank_after[at]))
            parts = forms[at:stop] if "".join(forms[at:stop]) == surface else [surface]
            places += [len(words) + min(i, len(parts) - 1) for i in range(stop - at)]
            words += parts
            spaces += [before, *[""] * (len(parts) - 1)]
            before, at = " " if after else "", stop
        return words, spaces, places


def dependencies(paths: list[Path], encoding: str | None = None) -> Corpus:
    """The dependencies of files, both ways: `nsubj` from the dependent to its head, `nsubj<-` from the head to it.

    Raises: ValueError with file and line at what is not CoNLL-U, or where words are heads of each other in a circle.
    """
    documents, rows = [], []
    relations: dict[str, int] = {}
    sentences, note = _sentences(paths, encoding)
    for number, sentence in enumerate(sentences):
        words, spaces, places = sentence.model_words()
        for at, (head, word) in enumerate(zip(sentence.heads, sentence.words, strict=True)):
            if head >= 0 and word.deprel != "_":
                relation = relations.setdefault(word.deprel, len(relations))
                rows.append((number, relation, places[at], places[head]))
        documents.append(Document(f"{sentence.name}:{sentence.line}", tuple(words), tuple(spaces), source=number))
    forward = np.array(rows, np.int64).reshape(-1, 4)
    backward = forward[:, [0, 1, 3, 2]] + [0, len(relations), 0, 0]
    names = [Relation(name + end) for end in ("", "<-") for name in relations]
    return build_corpus(documents, names, np.concatenate([forward, backward]), note)


def entities(paths: list[Path], encoding: str | None = None) -> Corpus:
    """The coreference of files, from `Entity=`.

    Raises: ValueError with file and line at what is not CoNLL-U, or where a bracket of `Entity=` has no other end.
    """
    documents, pairs = [], []
    sentences, note = _sentences(paths, encoding)
    starts = [i for i, sentence in enumerate(sentences) if sentence.begins]
    for start, stop in zip(starts, [*starts[1:], len(sentences)], strict=True):
        document, mentions = _document(sentences[start:stop])
        pairs.append(coreference.pairs_of(len(documents), mentions))
        heads = coreference.head_words(mentions)
        documents.append(replace(document, mentions=heads, source=len(documents)))
    return build_corpus(documents, coreference.RELATIONS, np.concatenate([np.zeros((0, 4), np.int64), *pairs]), note)


def has_entities(path: Path, encoding: str | None = None) -> bool:
    """Whether a file has coreference."""
    return re.search(r"[\t|]Entity=", read_text(path, encoding)) is not None


# --- sentences ------------------------------------------------------------------------------------------------------


def _sentences(paths: list[Path], encoding: str | None) -> tuple[list[_Sentence], str]:
    """The sentences of files, and a note of how many have comments but no words."""
    kept, wordless = [], 0
    for path in paths:
        begins = True
        for comments, rows in conllu.sentences(read_lines(path, encoding), path.name):
            begins = begins or any(comment.startswith("# newdoc") for comment in comments)
            if not rows:
                wordless += any(not comment.startswith("# global") for comment in comments)
                continue
            sentence = _Sentence(path.name, rows[0].line, begins)
            for row in rows:
                _add(sentence, row)
            _check(sentence)
            _check_tree(sentence)
            if sentence.words:
                kept.append(sentence)
                begins = False
            else:
                wordless += 1
    return kept, f"Left out: {wordless:,} sentence{'s' * (wordless > 1)} without words." if wordless else ""


def _add(sentence: _Sentence, row: conllu.Row) -> None:
    """Adds a row to a sentence."""
    where, count, blank = f"{sentence.name}:{row.line}", len(sentence.words), True
    for item in row.misc.split("|"):
        blank = blank and item != "SpaceAfter=No"
        if item.startswith("Entity="):  # on an empty node: from the next word on, or up to the last
            sentence.entities.append((count, count - ("." in row.id), row.line, item[7:]))
    if row.is_word:
        if not (row.head == "_" or row.head.isascii() and row.head.isdecimal()):
            raise ValueError(
                f"{where}: expected as HEAD the number of a word, or 0 for the root, got {row.head!r}; correct it"
            )
        sentence.words.append(row)
        sentence.heads.append(-1 if row.head == "_" else int(row.head) - 1)
        sentence.blank_after.append(blank)
    elif match := RANGE.fullmatch(row.id):
        first, last = int(match[1]) - 1, int(match[2]) - 1
        if first != count or last < first or sentence.ranges and first <= sentence.ranges[-1][1]:
            raise ValueError(
                f"{where}: expected the range of a multiword token to begin at the next word, {count + 1}, "
                f"got {row.id}; put it before its words, and let no two overlap"
            )
        sentence.ranges.append((first, last, row.form, blank))


def _check(sentence: _Sentence) -> None:
    """Raises ValueError where a range or a head points outside the sentence."""
    count = len(sentence.words)
    if sentence.ranges and sentence.ranges[-1][1] >= count:
        first, last = sentence.ranges[-1][:2]
        raise ValueError(
            f"{sentence.name}:{sentence.line}: expected words up to {last + 1} for the multiword token "
            f"{first + 1}-{last + 1}, got {count}; correct its range"
        )
    for at, head in enumerate(sentence.heads):
        if head >= count or head == at:
            what = "itself" if head == at else f"{head + 1} in a sentence of {count} words"
            raise ValueError(
                f"{sentence.name}:{sentence.words[at].line}: expected as HEAD another word of the sentence, or 0 for "
                f"the root, got {what}; correct it"
            )


def _check_tree(sentence: _Sentence) -> None:
    """Raises ValueError where words are heads of each other in a circle."""
    rooted = {-1}
    for at in range(len(sentence.heads)):
        path: dict[int, None] = {}
        while at not in rooted and at not in path:
            path[at] = None
            at = sentence.heads[at]
        if at in path:
            circle = [*path]
            circle = [*circle[circle.index(at) :], at]
            raise ValueError(
                f"{sentence.name}:{sentence.words[at].line}: expected a tree, got words that are heads of each other "
                f"in a circle ({' <- '.join(str(word + 1) for word in circle)}); correct HEAD"
            )
        rooted.update(path)


# --- entities -------------------------------------------------------------------------------------------------------


def _document(sentences: list[_Sentence]) -> tuple[Document, list[Mention]]:
    """Several sentences as one document, with its mentions."""
    words, spaces, mentions = [], [], []
    for sentence in sentences:
        new_words, new_spaces, places = sentence.model_words()
        if words:
            new_spaces[0] = new_spaces[0] or " "
        for entity, inside in _mentions(sentence):
            head = next((i for i in sorted(inside) if sentence.heads[i] not in inside), max(inside))
            kind = _kind(sentence.words[head].upos, len(inside))
            mentions.append(Mention(len(words) + places[head], entity, kind))
        words += new_words
        spaces += new_spaces
    first = sentences[0]
    return Document(f"{first.name}:{first.line}", tuple(words), tuple(spaces)), mentions


def _kind(upos: str, length: int) -> str:
    if upos == "PRON" or upos == "DET" and length == 1:
        return "pronoun"
    return "name" if upos == "PROPN" else "nominal"


def _mentions(sentence: _Sentence) -> list[tuple[str, set[int]]]:
    """(entity, its words) for each mention of a sentence that holds a word."""
    mentions, unclosed, parts = [], {}, {}
    for begin, end, line, brackets in sentence.entities:
        where = f"{sentence.name}:{line}"
        pieces = BRACKET.findall(brackets)
        if "".join(pieces) != brackets:
            raise ValueError(
                f"{where}: expected Entity= with brackets as in (e1-person and e1), got {brackets!r}; correct it"
            )
        for piece in pieces:
            name = piece.strip("()").split("-")[0]
            if piece.startswith("("):
                unclosed.setdefault(name, []).append((begin, line))
            if not piece.endswith(")"):
                continue
            if not unclosed.get(name):
                raise ValueError(f"{where}: expected the end of a mention that has begun, got {piece!r}; open it")
            inside = set(range(unclosed[name].pop()[0], end + 1))
            if split := PART.fullmatch(name):
                name = split[1]
                parts.setdefault(name, set()).update(inside)
                if split[2] != split[3]:
                    continue
                inside = parts.pop(name)
            if inside:
                mentions.append((name, inside))
    for name, places in unclosed.items():
        if places:
            raise ValueError(
                f"{sentence.name}:{places[-1][1]}: expected the mention {name!r} to end in its sentence, got no "
                f"bracket that closes it; write {name}) at its last word"
            )
    return mentions
