"""Reads CoNLL-U: which word depends on which, and, where `Entity=` stands in the last column, who is who.

    3-4  didn't  _     _    _   ...       one stretch of text that is two words: cut as the words are spelled
    3    did     do    AUX  ... 5  aux
    4    n't     not   PART ... 5  advmod
    5-6  du      _     _    _   ...       spelled otherwise than its words, de and le: one word for the model, which
    5    de      de    ADP  ... 7  case   asks the questions of both; links between the two are gone
    6    le      le    DET  ... 7  det

A document is a sentence; for coreference it is what stands from one `# newdoc` to the next. Words are joined by a blank,
or by nothing after `SpaceAfter=No`. Relations are counted as they are written, `nmod:poss` apart from `nmod`; the root
asks nothing. Empty nodes (1.1) are not in the text and are left out, with mentions that hold nothing else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sightline.head_roles import coreference
from sightline.head_roles.coreference import Mention
from sightline.head_roles.gold import Corpus, Document, Relation, asked
from sightline.tasks.readers import CONLLU
from sightline.textfiles import read_lines, read_text

EMPTY_NODE = re.compile(r"\d+\.\d+")
RANGE = re.compile(r"(\d+)-(\d+)")
BRACKET = re.compile(r"\([^()]+\)?|[^()]+\)")  # (e1-person, (e1-person) and e1)
PART = re.compile(r"(.*)\[(\d+)/(\d+)\]")  # of a mention in several pieces


@dataclass
class _Sentence:
    """The rows of one sentence, as they are read; words count from 0, and a head of -1 is none."""

    line: int
    begins: bool  # a document
    forms: list[str] = field(default_factory=list)
    upos: list[str] = field(default_factory=list)
    heads: list[int] = field(default_factory=list)
    relations: list[str] = field(default_factory=list)
    apart: list[bool] = field(default_factory=list)  # whether a blank follows
    lines: list[int] = field(default_factory=list)
    ranges: list[tuple[int, int, str, bool]] = field(default_factory=list)  # first, last, form, blank after
    entities: list[tuple[int, int, int, str]] = field(default_factory=list)  # opens at, closes at, line, what

    def laid_out(self) -> tuple[list[str], list[str], list[int]]:
        """The words a model reads, what stands before each, and for each word of the tree which of them it is."""
        words, spaces, place, before, ranges = ([], [], [], "", iter([*self.ranges, (len(self.forms), 0, "", True)]))
        first, last, surface, apart = next(ranges)
        at = 0
        while at < len(self.forms):
            stop = at + 1
            parts, after = [self.forms[at]], self.apart[at]
            if at == first:
                stop, after = last + 1, apart
                parts = self.forms[at:stop] if "".join(self.forms[at:stop]) == surface else [surface]
                first, last, surface, apart = next(ranges)
            place += [len(words) + min(i, len(parts) - 1) for i in range(stop - at)]
            words += parts
            spaces += [before, *[""] * (len(parts) - 1)]
            before, at = " " if after else "", stop
        return words, spaces, place


def trees(paths: list[Path], encoding: str | None = None) -> Corpus:
    """The dependencies of files, both ways: `nsubj` from the dependent to its head, `nsubj<-` from the head to it.

    Raises: ValueError with file and line at what is not CoNLL-U, or where words are heads of each other in a circle.
    """
    documents, rows, wordless = [], [], 0
    relations: dict[str, int] = {}
    for path in paths:
        sentences, without = _sentences(path, encoding)
        wordless += without
        _check_circles(path, sentences)
        for sentence in sentences:
            words, spaces, place = sentence.laid_out()
            for at, (head, relation) in enumerate(zip(sentence.heads, sentence.relations, strict=True)):
                if head >= 0 and relation != "_":
                    number = relations.setdefault(relation, len(relations))
                    rows.append((len(documents), number, place[at], place[head]))
            name = f"{path.name}:{sentence.line}"
            documents.append(Document(name, tuple(words), tuple(spaces), source=len(documents)))
    there = np.array(rows, np.int64).reshape(-1, 4)
    back = there[:, [0, 1, 3, 2]] + [0, len(relations), 0, 0]
    names = [Relation(name + end) for end in ("", "<-") for name in relations]
    return asked(documents, names, np.concatenate([there, back]), _wordless(wordless))


def entities(paths: list[Path], encoding: str | None = None) -> Corpus:
    """The coreference of files, by `Entity=`.

    Raises: ValueError with file and line at what is not CoNLL-U, or where a bracket of `Entity=` has no other end.
    """
    documents, found, wordless = [], [np.zeros((0, 4), np.int64)], 0
    for path in paths:
        sentences, without = _sentences(path, encoding)
        wordless += without
        _check_circles(path, sentences)
        starts = [i for i, s in enumerate(sentences) if s.begins or i == 0]
        for start, stop in zip(starts, [*starts[1:], len(sentences)], strict=True):
            document, mentions = _document(path, sentences[start:stop])
            found.append(coreference.links(len(documents), mentions))
            documents.append(replace(document, mentions=coreference.stood_for(mentions), source=len(documents)))
    return asked(documents, coreference.RELATIONS, np.concatenate(found), _wordless(wordless))


def has_entities(path: Path, encoding: str | None = None) -> bool:
    """Whether a file says who is who."""
    return re.search(r"[\t|]Entity=", read_text(path, encoding)) is not None


def _wordless(count: int) -> str:
    return f"Left out: {count:,} sentence{'s' * (count > 1)} without words." if count else ""


# --- rows ----------------------------------------------------------------------------------------------------------------


def _sentences(path: Path, encoding: str | None) -> tuple[list[_Sentence], int]:
    """The sentences of a file, and how many had comments but no words."""
    found, wordless, comments, begins, sentence = [], 0, False, False, None
    for number, line in enumerate([*read_lines(path, encoding), ""], 1):
        if not line.strip():
            if sentence is not None:
                wordless += not _finished(path, sentence)
                found += [sentence] if sentence.forms else []
            wordless += comments and sentence is None
            begins = begins and not (sentence and sentence.forms)
            sentence, comments = None, False
        elif line.startswith("#") and sentence is None:
            comments = comments or not line.startswith("# global")
            begins = begins or line.startswith("# newdoc")
        elif not line.startswith("#"):
            sentence = sentence or _Sentence(number, begins)
            _add(sentence, line, f"{path.name}:{number}", number)
    return found, wordless


def _add(sentence: _Sentence, line: str, where: str, number: int) -> None:
    """One row more of a sentence."""
    row = line.split("\t")
    if len(row) != len(CONLLU) or "" in row:
        what = f"{len(row)}" if len(row) != len(CONLLU) else f"an empty {CONLLU[row.index('')]}"
        raise ValueError(
            f"{where}: expected {len(CONLLU)} fields parted by tabs, got {what}; write _ for what is not known"
        )
    id_, form, _, upos, _, _, head, relation, _, misc = row
    count, apart = len(sentence.forms), True
    if misc != "_":
        for item in misc.split("|"):
            apart = apart and item != "SpaceAfter=No"
            if item.startswith("Entity="):  # on an empty node: from the next word on, or up to the last
                sentence.entities.append((count, count - ("." in id_), number, item[7:]))
    if id_ == str(count + 1):
        sentence.forms.append(form)
        sentence.upos.append(upos)
        sentence.heads.append(_head(head, where))
        sentence.relations.append(relation)
        sentence.apart.append(apart)
        sentence.lines.append(number)
    elif match := RANGE.fullmatch(id_):
        first, last = int(match[1]) - 1, int(match[2]) - 1
        if first != count or last < first or sentence.ranges and first <= sentence.ranges[-1][1]:
            raise ValueError(
                f"{where}: expected the range of a multiword token to begin at the next word, {count + 1}, got {id_}; "
                "put it before its words, and let no two overlap"
            )
        sentence.ranges.append((first, last, form, apart))
    elif not EMPTY_NODE.fullmatch(id_):
        raise ValueError(
            f"{where}: expected the word number {count + 1}, got {id_!r}; "
            "number words from 1 and end each sentence with an empty line"
        )


def _head(head: str, where: str) -> int:
    if not (head == "_" or head.isascii() and head.isdecimal()):
        raise ValueError(f"{where}: expected as HEAD the number of a word, or 0 for the root, got {head!r}; correct it")
    return -1 if head == "_" else int(head) - 1


def _finished(path: Path, sentence: _Sentence) -> bool:
    """Whether the sentence has words; what could not be checked row by row is checked here."""
    count = len(sentence.forms)
    if sentence.ranges and sentence.ranges[-1][1] >= count:
        first, last = sentence.ranges[-1][:2]
        raise ValueError(
            f"{path.name}:{sentence.line}: expected words up to {last + 1} for the multiword token {first + 1}-{last + 1}, "
            f"got {count}; correct its range"
        )
    for at, head in enumerate(sentence.heads):
        if head >= count or head == at:
            what = "itself" if head == at else f"{head + 1} in a sentence of {count} words"
            raise ValueError(
                f"{path.name}:{sentence.lines[at]}: expected as HEAD another word of the sentence, or 0 for the root, "
                f"got {what}; correct it"
            )
    return count > 0


def _check_circles(path: Path, sentences: list[_Sentence]) -> None:
    """Follows all heads at once, each step twice as far as the one before: who has not come to a root by then never will."""
    lengths = np.array([len(s.forms) for s in sentences], np.int64)
    starts = np.repeat(lengths.cumsum() - lengths, lengths)
    head = np.array([head for s in sentences for head in s.heads], np.int64)
    above = np.append(np.where(head < 0, len(head), head + starts), len(head))  # the last is above all roots
    for _ in range(int(lengths.max(initial=1)).bit_length()):
        above = above[above]
    lost = np.flatnonzero(above[:-1] != len(head))
    if len(lost):
        sentence = sentences[np.searchsorted(lengths.cumsum(), lost[0], "right")]
        at = int(lost[0] - starts[lost[0]])
        circle = [at]
        while circle[-1] not in circle[:-1]:
            circle.append(sentence.heads[circle[-1]])
        circle = circle[circle.index(circle[-1]) :]
        raise ValueError(
            f"{path.name}:{sentence.lines[circle[0]]}: expected a tree, got words that are heads of each other in a circle "
            f"({' <- '.join(str(word + 1) for word in circle)}); correct HEAD"
        )


# --- entities ------------------------------------------------------------------------------------------------------------


def _document(path: Path, sentences: list[_Sentence]) -> tuple[Document, list[Mention]]:
    """Several sentences as one document, with its mentions."""
    words, spaces, mentions = [], [], []
    for sentence in sentences:
        own, before, place = sentence.laid_out()
        if words:
            before[0] = before[0] or " "
        for entity, held in _mentions(path, sentence):
            head = next((i for i in sorted(held) if sentence.heads[i] not in held), max(held))
            mentions.append(Mention(len(words) + place[head], entity, _kind(sentence.upos[head], len(held))))
        words += own
        spaces += before
    return Document(f"{path.name}:{sentences[0].line}", tuple(words), tuple(spaces)), mentions


def _kind(upos: str, length: int) -> str:
    if upos == "PRON" or upos == "DET" and length == 1:
        return "pronoun"
    return "name" if upos == "PROPN" else "nominal"


def _mentions(path: Path, sentence: _Sentence) -> list[tuple[str, set[int]]]:
    """(entity, its words) for each mention of a sentence that holds a word."""
    found, open_, parts = [], {}, {}
    for begin, end, line, brackets in sentence.entities:
        pieces = BRACKET.findall(brackets)
        if "".join(pieces) != brackets:
            raise ValueError(
                f"{path.name}:{line}: expected Entity= with brackets as in (e1-person and e1), got {brackets!r}; correct it"
            )
        for piece in pieces:
            name = piece.strip("()").split("-")[0]
            if piece.startswith("("):
                open_.setdefault(name, []).append((begin, line))
            if not piece.endswith(")"):
                continue
            if not open_.get(name):
                raise ValueError(
                    f"{path.name}:{line}: expected the end of a mention that has begun, got {piece!r}; open it"
                )
            held = set(range(open_[name].pop()[0], end + 1))
            if split := PART.fullmatch(name):
                name = split[1]
                parts.setdefault(name, set()).update(held)
                if split[2] != split[3]:
                    continue
                held = parts.pop(name)
            if held:
                found.append((name, held))
    for name, left in open_.items():
        if left:
            raise ValueError(
                f"{path.name}:{left[-1][1]}: expected the mention {name!r} to end in its sentence, got no bracket that closes it; "
                f"write {name}) at its last word"
            )
    return found
