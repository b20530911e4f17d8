"""The model that is looked into: of Hugging Face, or fitted here; how it cuts documents into pieces, and how it is run.

Both kinds behind one door, each with a twin of random weights to compare with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy import ndarray
from torch import nn

from sightline.head_roles.gold import Document
from sightline.head_roles.words import Read, laid, paired
from sightline.models import placed
from sightline.observe import untrained
from sightline.sequences import Sequences
from sightline.tasks import Language, Tag, scope
from sightline.training import Model

CONFIG, TASK = "config.json", "task.json"


@dataclass(frozen=True, eq=False)
class Subject:
    """A model ready to be measured.

    `read` cuts documents into pieces; `run` puts ids of sequences, sorted by length, through `model`, whose attention they
    come to. `longest` is how many pieces it takes (None: any), `ordinary` are the ids that are no special tokens, `before` and
    `after` the special ones around each text.
    """

    name: str
    model: nn.Module
    longest: int | None
    ordinary: ndarray
    read: Callable[[Sequence[Document]], list[Read]]
    run: Callable[[nn.Module, Sequences], object]
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def at_random(self, seed: int = 0) -> Subject:
        """The same build with weights drawn anew."""
        return replace(self, name=f"{self.name}, random weights", model=untrained(self.model, seed))


def opened(model, tokenizer=None) -> Subject:
    """The subject of a folder written by `fit`, of a loaded model, or of a Hugging Face model by its folder or name.

    Raises: ValueError where there is no such model, or one that reads no text or has no attention that can be seen;
    TypeError for anything else.
    """
    if isinstance(model, Model):
        return _fitted(model, type(model.encoder).__name__)
    if isinstance(model, (str, Path)):
        folder = Path(model)
        if (folder / TASK).is_file() or folder.is_dir() and not (folder / CONFIG).is_file():
            return _fitted(Model.load(folder), folder.resolve().name)
        name = "/".join(folder.resolve().parts[-2:]) if folder.is_dir() else str(model)
        return _of_the_hub(model, tokenizer, name)
    if hasattr(model, "set_attn_implementation"):
        return _of_the_hub(model, tokenizer, type(model).__name__)
    raise TypeError(
        f"heads: expected the folder of a model, its name on the hub, or a loaded model, got {type(model).__name__}; name one"
    )


# --- fitted here --------------------------------------------------------------------------------------------------------


def _fitted(model: Model, name: str) -> Subject:
    if model.tokenizer is None:
        raise ValueError("heads: expected a model that reads text, got one of vectors; fit one on text")
    kind = model.config.encoder.kind
    if kind != "self-attention":
        raise ValueError(
            f"heads: expected an encoder of self-attention, got {kind}, which has no weights to see; choose another"
        )
    task, before = model.task, ()
    if isinstance(task, Tag) and task.labels == tuple(scope.ROLES):
        read = _functions
    elif isinstance(task, Tag):
        read = _word_by_word(model)
    else:
        before = (task.end,) if isinstance(task, Language) and not task.stream else ()
        read = _texts(model, before)
    model = model.eval()

    def run(encoder: nn.Module, ids: Sequences) -> object:
        return encoder(ids)

    special = [model.tokenizer.end, model.tokenizer.unknown]
    ordinary = np.setdiff1d(np.arange(model.tokenizer.size), special)
    return Subject(name, model.encoder, None, ordinary, read, run, before)


def _functions(documents: Sequence[Document]) -> list[Read]:
    """What a model of `scope` reads: one id a word."""
    made = []
    for document in documents:
        if document.ids is None:
            raise ValueError(
                f"{document.name}: expected a function as `scope` has it, which is what this model reads, got a text; "
                "measure it on scope, or take a model of text"
            )
        each, none = np.arange(len(document.ids)), np.zeros(len(document.ids), bool)
        made.append(paired(document.ids, none, none, each, each, len(document.words)))
    return made


def _word_by_word(model: Model) -> Callable[[Sequence[Document]], list[Read]]:
    def read(documents: Sequence[Document]) -> list[Read]:
        encoded = model.tokenizer.encode([list(document.words) for document in documents])
        words = encoded.words.numpy()
        made = []
        for s, document in enumerate(documents):
            mine = slice(*encoded.ids.offsets[s : s + 2].tolist())
            ids = encoded.ids.values[mine].numpy()
            none = np.zeros(len(ids), bool)
            made.append(paired(ids, none, none, words[mine], np.arange(len(ids)), len(document.words)))
        return made

    return read


def _texts(model: Model, before: tuple[int, ...]) -> Callable[[Sequence[Document]], list[Read]]:
    def read(documents: Sequence[Document]) -> list[Read]:
        encoded = model.tokenizer.engine.encode_batch([d.text for d in documents], add_special_tokens=False)
        made = []
        for document, one in zip(documents, encoded, strict=True):
            ids = np.array([*before, *one.ids], np.int64)
            places = np.array([(0, 0)] * len(before) + one.offsets, np.int64)
            special = np.arange(len(ids)) < len(before)
            made.append(laid(ids, places, special, np.zeros(len(ids), bool), document.spans))
        return made

    return read


# --- of Hugging Face ----------------------------------------------------------------------------------------------------


def _of_the_hub(source, tokenizer, name: str) -> Subject:
    from sightline.huggingface.embed import Embedder
    from sightline.huggingface.packability import base_of, most_positions, way_of
    from sightline.huggingface.packing import run

    with torch.random.fork_rng(devices=[]):  # for what a checkpoint lacks, as a pooler, is drawn: each time the same
        torch.default_generator.manual_seed(0)
        embedder = Embedder(source, tokenizer=tokenizer)
    base, tokenizer = base_of(embedder.model), embedder.tokenizer
    base.eval()
    ends = {tokenizer.sep_token_id, tokenizer.eos_token_id} - {None}
    how = {"return_offsets_mapping": tokenizer.is_fast, "return_special_tokens_mask": True, "truncation": False}

    def read(documents: Sequence[Document]) -> list[Read]:
        found = tokenizer([document.text for document in documents], verbose=False, **how)
        made = []
        for s, document in enumerate(documents):
            ids = np.array(found["input_ids"][s], np.int64)
            special = np.array(found["special_tokens_mask"][s], bool)
            if tokenizer.is_fast:
                places = found["offset_mapping"][s]
            else:
                places = placed(document.text, tokenizer.convert_ids_to_tokens(ids.tolist()), special.tolist())
            made.append(
                laid(ids, np.array(places, np.int64).reshape(-1, 2), special, np.isin(ids, list(ends)), document.spans)
            )
        return made

    around = tokenizer("a", return_special_tokens_mask=True)
    special = np.array(around["special_tokens_mask"], bool)
    inner, ids = np.flatnonzero(~special), around["input_ids"]
    before, after = tuple(ids[: inner[0]]), tuple(ids[inner[-1] + 1 :])

    def forward(model: nn.Module, ids: Sequences) -> object:
        return run(model, ids, tokens=max(len(ids.values), 1))

    longest = most_positions(base, way_of(base))
    ordinary = np.setdiff1d(sorted(tokenizer.get_vocab().values()), tokenizer.all_special_ids)
    ordinary = ordinary[ordinary < base.get_input_embeddings().num_embeddings]
    return Subject(name, base, longest, ordinary, read, forward, before, after)
