"""Turns text into ids and back. Every kind is one `tokenizer.json`, which travels with the model.

    bytes        256 symbols; nothing is ever unknown
    characters   those of the training text
    words        of a text: runs of letters and digits, and runs of other marks, lower-cased; of a list: its words,
                 unchanged. A word that occurs once is unknown, so that training contains the unknown
    bpe          byte-level pieces merged by frequency; nothing is ever unknown

Ids: 0 is `<unk>` and 1 is `<end>`, which closes a text in language modelling. Neither is searched for in the text. A
`tokenizer.json` of another program keeps its ids; `<end>` is added to it if it has none.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Engine
from torch import Tensor

from sightline.files import MOST_JSON, read_bytes, write_files
from sightline.sequences import Sequences
from sightline.tabular import items_of
from sightline.tasks.examples import packed

UNKNOWN, END = "<unk>", "<end>"
FILE = "tokenizer.json"
SIZES = {"bytes": 258, "characters": 10_000, "words": 30_000, "bpe": 8_000}  # kinds, and how many ids at most
AT_ONCE = 8192  # texts in one call: bounds the memory taken by the engine's encodings


class Encoded(NamedTuple):
    """Ids, and for each the number of its word in the sequence (in a text: its own position)."""

    ids: Sequences
    words: Tensor


class Tokenizer:
    """Text to ids and back, over one engine of the `tokenizers` library.

    >>> tokenizer = Tokenizer.train("characters", ["abba"])
    >>> tokenizer.encode(["abc"]).ids.values, tokenizer.decode([2, 3, 3])
    (tensor([2, 3, 0]), 'abb')
    """

    def __init__(self, engine: Engine):
        engine.no_truncation()
        engine.no_padding()
        if engine.token_to_id(END) is None:
            engine.add_special_tokens([AddedToken(END, special=True)])
        self.engine = engine
        self.end: int = engine.token_to_id(END)  # pyright: ignore[reportAttributeAccessIssue]  # it has one now
        unknown = engine.token_to_id(getattr(engine.model, "unk_token", None) or UNKNOWN)
        self.unknown: int = self.end if unknown is None else unknown

    @property
    def size(self) -> int:
        """How many ids there are: one more than the largest."""
        return max(self.engine.get_vocab(with_added_tokens=True).values()) + 1

    @classmethod
    def train(cls, kind: str, texts: list[str] | list[list[str]], size: int | None = None) -> Tokenizer:
        """A tokenizer of a kind (bytes, characters, words, bpe), fitted to texts or lists of words.

        Raises: ValueError for another kind, or a size that the kind cannot have.
        """
        if kind not in SIZES:
            raise ValueError(
                f"tokenizer: expected one of {', '.join(SIZES)} or a tokenizer.json, got {kind!r}; choose one"
            )
        least = {"bytes": 258, "bpe": 258}.get(kind, 3)
        size = SIZES[kind] if size is None else size
        if size < least or (kind == "bytes" and size != least):
            raise ValueError(
                f"tokenizer: expected a vocabulary of {least}{' or more' * (kind != 'bytes')} for {kind}, got {size}; "
                "change it or leave it out"
            )
        texts = texts if isinstance(texts, list) else list(items_of(texts, "tokenizer"))
        listed = bool(texts) and not isinstance(texts[0], str)
        strings: list[Any] = list(chain.from_iterable(texts)) if listed else texts
        match kind:
            case "bytes":
                return cls(_pieces(sorted(pre_tokenizers.ByteLevel.alphabet()), byte_level=True))
            case "characters":
                counts = Counter(chain.from_iterable(strings))
                kept = sorted(counts, key=lambda c: (-counts[c], c))[: size - 2]
                return cls(_pieces(sorted(kept), byte_level=False))
            case "words":
                return cls(_trained_words(strings, size, listed))
            case _:
                return cls(_trained_bpe(strings, size))

    @classmethod
    def of(cls, symbols: list[str]) -> Tokenizer:
        """One id for each symbol, in this order, for lists of symbols; `<unk>` and `<end>` follow."""
        vocabulary = {symbol: i for i, symbol in enumerate(dict.fromkeys([*symbols, UNKNOWN, END]))}
        engine = Engine(models.WordLevel(vocabulary, unk_token=UNKNOWN))
        engine.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return cls(engine)

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Reads a `tokenizer.json`, or the one in a folder.

        Raises: ValueError where it is missing or broken.
        """
        path = Path(path) / FILE if Path(path).is_dir() else Path(path)
        try:
            tokenizer = cls(Engine.from_str(read_bytes(path, MOST_JSON).decode("utf-8")))
            tokenizer.encode(["\U0010ffff"])  # what is unknown must have an id
            return tokenizer
        except BaseException as error:  # the engine raises plain Exception, and PanicException, which is none
            if isinstance(error, (KeyboardInterrupt, SystemExit, MemoryError)):
                raise
            reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: expected a tokenizer.json of the tokenizers library, got: {reason}; save it anew")

    def save(self, folder: str | Path) -> None:
        """Writes `tokenizer.json` into a folder."""
        write_files(Path(folder), {FILE: self.engine.to_str().encode()})

    def encode(self, texts: list[str] | list[list[str]]) -> Encoded:
        """One sequence of ids for each text or list of words; a listed word that gives no piece becomes one unknown."""
        items: list[Any] = texts if isinstance(texts, list) else list(items_of(texts, "tokenizer"))
        if items and not isinstance(items[0], str):
            return self._encode_words(items)
        ids = _joined(self._ids(items))
        return Encoded(ids, ids.positions)

    def _ids(self, texts: list[str]) -> Iterator[list[int]]:
        for start in range(0, len(texts), AT_ONCE):
            batch = self.engine.encode_batch_fast(texts[start : start + AT_ONCE], add_special_tokens=False)
            yield from (encoding.ids for encoding in batch)

    def _encode_words(self, sentences: list[list[str]]) -> Encoded:
        known = sorted(set(chain.from_iterable(sentences)))
        pieces = {word: ids or [self.unknown] for word, ids in zip(known, self._ids(known), strict=True)}
        ids = _joined(list(chain.from_iterable(pieces[word] for word in words)) for words in sentences)
        numbers = [n for words in sentences for n, word in enumerate(words) for _ in pieces[word]]
        return Encoded(ids, torch.tensor(numbers, dtype=torch.int64))

    def encode_stream(self, text: str) -> Tensor:
        """The ids [T] of one long text."""
        return self.encode(text_chunks(text)).ids.values

    def decode(self, ids: list[int] | Tensor) -> str:
        """The text of ids: exactly what was encoded for bytes, characters and bpe; words parted by blanks for words."""
        ids = ids.tolist() if isinstance(ids, Tensor) else ids
        return self.engine.decode(ids, skip_special_tokens=False)


def text_chunks(text: str) -> list[str]:
    """One long text in parts that end at line ends, to be encoded side by side."""
    parts, start = [], 0
    while start < len(text):
        stop = text.find("\n", start + 65_536) + 1 or len(text)
        parts.append(text[start:stop])
        start = stop
    return parts


def _joined(sequences: Iterable[list[int]]) -> Sequences:
    parts = list(sequences)
    return packed(torch.tensor(list(chain.from_iterable(parts)), dtype=torch.int64), list(map(len, parts)))


def _pieces(symbols: list[str], byte_level: bool) -> Engine:
    """Each character, or byte, is a piece: byte-pair encoding with nothing to merge."""
    vocabulary = {symbol: i for i, symbol in enumerate([UNKNOWN, END, *symbols])}
    engine = Engine(models.BPE(vocab=vocabulary, merges=[], unk_token=UNKNOWN))
    engine.decoder = decoders.ByteLevel() if byte_level else decoders.Fuse()
    if byte_level:
        engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return engine


def _trained_words(strings: list[str], size: int, listed: bool) -> Engine:
    engine = Engine(models.WordLevel(unk_token=UNKNOWN))
    engine.pre_tokenizer = pre_tokenizers.WhitespaceSplit() if listed else pre_tokenizers.Whitespace()
    if not listed:
        engine.normalizer = normalizers.Lowercase()
    return _trained(engine, trainers.WordLevelTrainer, strings, vocab_size=size, min_frequency=2)


def _trained_bpe(strings: list[str], size: int) -> Engine:
    engine = Engine(models.BPE(unk_token=UNKNOWN))
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return _trained(engine, trainers.BpeTrainer, strings, vocab_size=size, initial_alphabet=alphabet)


def _trained(engine: Engine, trainer: type, strings: list[str], **options) -> Engine:
    """Trained with `<unk>` and `<end>` in the vocabulary; but these characters in a text are read literally."""
    engine.train_from_iterator(strings, trainer(special_tokens=[UNKNOWN, END], show_progress=False, **options))
    spec = json.loads(engine.to_str())
    return Engine.from_str(json.dumps(spec | {"added_tokens": []}))
