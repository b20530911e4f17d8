"""The two kinds of model one can look into, behind one door: those that `sightline fit` left, and Hugging Face's.

Both turn a text into ids that they read and pieces that people see; a model of `scope` reads a Python function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sightline.models import Text, Unit, cut, placed, shown
from sightline.sequences import Sequences
from sightline.tasks import Language, Tag, roles, scope
from sightline.training import Model

CONFIG, TASK = "config.json", "task.json"


@dataclass(frozen=True)
class Reader:
    """A model ready to be looked into: `read` cuts a text, `run` reads the ids; `longest` is how many tokens it takes.

    `blind` is why its attention cannot be seen, or None; `width` that of its encodings, where it is told; `notes` what should be known of it.
    """

    name: str
    model: nn.Module
    longest: int | None
    read: Callable[[str], tuple[Text, Tensor]]
    run: Callable[[Tensor], object]
    blind: str | None
    width: int | None
    notes: list[str]


def opened(model: str | Path | Model) -> Reader:
    """The reader of a folder written by `fit`, of a loaded one, or of a Hugging Face model by its folder or name.

    Raises: ValueError where there is no such model, or one that reads no text.
    """
    if isinstance(model, Model):
        return _fitted(model, type(model.encoder).__name__)
    if not isinstance(model, (str, Path)):
        raise TypeError(
            f"look: expected the folder of a model, its name on the hub, or a fitted model, got {type(model).__name__}; name one"
        )
    if Path(model, TASK).is_file() or Path(model).is_dir() and not Path(model, CONFIG).is_file():
        return _fitted(Model.load(model), Path(model).resolve().name)
    return _of_the_hub(str(model))


def _fitted(model: Model, name: str) -> Reader:
    if model.tokenizer is None:
        raise ValueError("look: expected a model that reads text, got one of vectors; fit one on text")
    encoder = model.config.encoder
    blind = None if encoder.kind == "self-attention" else f"an encoder of kind {encoder.kind} has none"
    of_scope = isinstance(model.task, Tag) and model.task.labels == tuple(scope.ROLES)
    read = _function if of_scope else _text_of(model)

    def run(ids: Tensor) -> object:
        return model(Sequences(ids.to(model.device), [0, len(ids)]))

    return Reader(name, model, encoder.largest, read, run, blind, encoder.width, [])


def _text_of(model: Model) -> Callable[[str], tuple[Text, Tensor]]:
    """As the model's own task reads a record: word by word where it tags, with a beginning where it writes."""

    def read(text: str) -> tuple[Text, Tensor]:
        encoding = model.tokenizer.engine.encode(text, add_special_tokens=False)
        unknown = [i for i, one in enumerate(encoding.ids) if one == model.tokenizer.unknown]
        found = cut(text, encoding.offsets, encoding.tokens, unknown=unknown)
        ids = torch.tensor(encoding.ids, dtype=torch.int64)
        if isinstance(model.task, Language) and not model.task.stream:
            begun = Text(
                [Unit("", "<end>"), *found.pieces],
                [Unit("", "<end>"), *found.words],
                [0, *(word + 1 for word in found.word_of)],
                [True, *found.special],
                [],
                [1 + piece for piece in found.unknown],
                found.ends,
            )
            return begun, model.task.prompt(ids)
        return found, ids

    return read


def _of_the_hub(source: str) -> Reader:
    from sightline.huggingface.embed import load_whole
    from sightline.huggingface.packability import Way, base_of, most_positions, way_of
    from sightline.huggingface.packing import run

    model, tokenizer, _ = load_whole(source, None, None, None)
    model.to(torch.accelerator.current_accelerator(check_available=True) or "cpu")
    base, way, blind = base_of(model), Way(False), None
    try:
        way = way_of(base)
    except ValueError as error:
        blind = str(error).partition(";")[0]
    halves = model.config.is_encoder_decoder and base is not model
    notes = ["Shown is the encoder, as it reads the text; the decoder, which writes, is not."] if halves else []

    def read(text: str) -> tuple[Text, Tensor]:
        read = tokenizer(
            text,
            return_offsets_mapping=tokenizer.is_fast,
            return_special_tokens_mask=True,
            truncation=False,
            verbose=False,
        )
        ids, special = read["input_ids"], read["special_tokens_mask"]
        tokens = tokenizer.convert_ids_to_tokens(ids)
        spans = read["offset_mapping"] if tokenizer.is_fast else placed(text, tokens, special)
        unknown = [i for i, one in enumerate(ids) if one == tokenizer.unk_token_id]
        return cut(text, spans, tokens, special, unknown=unknown), torch.tensor(ids, dtype=torch.int64)

    return Reader(
        "/".join(Path(source).resolve().parts[-2:]) if Path(source).is_dir() else source,
        model,
        most_positions(base, way),
        read,
        lambda ids: run(model, [ids], tokens=max(len(ids), 1)),
        blind,
        getattr(base.config.get_text_config(), "hidden_size", None),
        notes,
    )


# --- a function of scope -------------------------------------------------------------------------------------------------

MARKS = {"NEWLINE": "\u21b5", "INDENT": "\u2192", "DEDENT": "\u2190"}


def _function(source: str) -> tuple[Text, Tensor]:
    """The first function in a Python source that `scope` could hold, its names numbered as they come.

    Raises: ValueError where there is none.
    """
    try:
        found = next(
            (f for f in roles.functions(source) if len(f.words) <= scope.LONGEST and len(_names(f)) <= scope.NAMES),
            None,
        )
    except (SyntaxError, ValueError, RecursionError):
        found = None
    if found is None:
        raise ValueError(
            f"look: expected a Python function without inner functions, of at most {scope.LONGEST} tokens and {scope.NAMES} names, "
            "as this model reads, got none; give the file of one"
        )
    names = {name: scope.FIRST_NAME + i for i, name in enumerate(_names(found))}
    ids = [names[s] if w is None else scope.WORD_IDS[w] for w, s in zip(found.words, found.spelling, strict=True)]
    units = _units(found.spelling, found.words)
    gold = [(use, binding) for use, binding in enumerate(found.links) if binding >= 0]
    return Text(units, units, list(range(len(units))), [False] * len(units), gold), torch.tensor(ids)


def _names(function: roles.Function) -> dict[str, None]:
    pairs = zip(function.spelling, function.words, strict=True)
    return dict.fromkeys(spelled for spelled, word in pairs if word is None)


def _units(spelling: list[str], words: list[str | None]) -> list[Unit]:
    """Each token with the blanks before it; the ends of lines, and beginnings and ends of blocks, as marks.

    >>> tokens = ["def", "f", "(", "x", ")", ":", "NEWLINE", "INDENT", "return", "x"]
    >>> "".join(unit.space + unit.text for unit in _units(tokens, [None if t in "fx" else t for t in tokens]))
    'def f(x): \u21b5\u2192\\n    return x'
    """
    units, ended = [], False
    for kind, token, space in zip(words, *roles.words_and_spaces(spelling, words), strict=True):
        if kind in MARKS:
            units.append(Unit(" " if kind == "NEWLINE" else "", MARKS[kind]))
        else:
            units.append(Unit("\n" * ended + space, shown(token)))
        ended = kind in MARKS
    return units
