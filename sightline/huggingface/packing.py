"""Runs a model on sequences of any lengths without padding: packed into one row, or, where a model forbids that, in equal lengths.

Packing is safe only if nothing in the model looks across sequences and if positions are counted anew in each, and families
count differently (from 0, from padding_idx + 1, or by themselves). No table of families is kept: before a model is first
used so, a few tokens are run packed and alone, and the first way that agrees is the way. None agreeing, it is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, wraps
from types import MethodType
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from sightline.attention import watching
from sightline.batching import sorted_batches
from sightline.huggingface.attending import NAME
from sightline.huggingface.rows import Packing, packing_in_use
from sightline.sequences import Sequences

PROBE = (5, 2, 7)  # lengths that are run packed and alone
CLOSE = {
    torch.float64: 1e-9,
    torch.float32: 1e-4,
    torch.bfloat16: 5e-2,
    torch.float16: 1e-2,
}  # relative to the largest


@dataclass(frozen=True)
class Way:
    """How a model takes many sequences at once: `first` is the number of a first position; None: the model counts itself."""

    packed: bool
    first: int | None = None
    padding: int | None = None  # tokens of this id are not counted, where positions begin after it


def run(model: PreTrainedModel, sequences: Iterable | Sequences, *, tokens: int = 4096) -> Sequences:
    """The last hidden state of every token of every sequence, without padding: of the encoder, where there is a decoder too.

    Sorts by length, packs `tokens` tokens at a time, and gives all back in the order given; gradients flow unless you
    turn them off. From then on the model's attention is "sightline".

    Shapes: token ids, one list or tensor [n] for each sequence (or `Sequences` [T]) -> `Sequences` [T, E].
    Raises: ValueError for a model that cannot be run so, named with the reason; for a sequence longer than its positions.

    >>> import sightline.huggingface as hf
    >>> from transformers import BertConfig, BertModel
    >>> model = BertModel(BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)).eval()
    >>> hf.run(model, [[101, 7592, 102], [101, 102]])
    Sequences(2 sequences, 5 rows, row shape [32], torch.float32, cpu)
    """
    base = base_of(model)
    way = way_of(base)
    inputs = _as_sequences(sequences)
    _check_lengths(base, way, inputs.lengths)
    order, parts = [], []
    for batch in sorted_batches(inputs.lengths.tolist(), tokens):
        chosen = inputs[batch].to(base.device)
        order += batch
        if len(chosen.values):
            parts.append(_forward(base, chosen, way) if way.packed else _in_runs(base, chosen))
    if not parts:
        nothing = torch.zeros(
            0, base.config.get_text_config().hidden_size, dtype=base.dtype, device=base.device
        )
        return inputs.with_values(nothing)
    lengths = inputs.lengths[order]
    whole = Sequences(torch.cat(parts), torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]))
    return whole[torch.tensor(order).argsort()]


def unpad(model: nn.Module) -> nn.Module:
    """From now on padded calls of this model run packed inside: the same call, the same outputs, without the padding's work.

    Takes any Hugging Face model, or an object that holds one, as a SentenceTransformer does; gives it back. A call runs packed
    if it has a mask [B, L] that is padded on the right and nothing else that fits only the padded form (a cache, asked-for
    attentions); any other call runs as it is, on the attention "sightline". Rows of padding come back as zeros.
    `set_attn_implementation("sdpa")` undoes it.

    Raises: TypeError where no Hugging Face model is found; ValueError for one that cannot be packed, with the reason.
    """
    held = model if isinstance(model, PreTrainedModel) else None
    if held is None and isinstance(model, nn.Module):
        held = next((part for part in model.modules() if isinstance(part, PreTrainedModel)), None)
    if held is None:
        raise TypeError(
            f"unpad: expected a Hugging Face model or an object that holds one, got {type(model).__name__}; load one first"
        )
    base = base_of(held)
    if not way_of(base).packed:
        raise ValueError(
            f"unpad: expected a model that can be packed into one row, but {type(base).__name__} relates or counts "
            "positions over the whole row; use sightline.huggingface.run(model, sequences), which runs equal lengths together"
        )
    if not hasattr(base.forward, "whole"):
        base.forward = MethodType(_unpadding(type(base).forward), base)
    return model


# --- how a model takes it -----------------------------------------------------------------------------------------------

_ways: WeakKeyDictionary[PreTrainedModel, Way] = WeakKeyDictionary()


def way_of(base: PreTrainedModel) -> Way:
    """The way that is proved for this model, found when first asked; turns its attention to "sightline".

    Raises: ValueError where no way gives each sequence what it gets alone.
    """
    if base not in _ways:
        training = {part: part.training for part in base.modules()}
        before = base.config._attn_implementation
        base.eval()
        try:
            with torch.no_grad():
                _ways[base] = _prove(base)
        except BaseException:
            base.set_attn_implementation(before)
            raise
        finally:
            for part, was in training.items():
                part.training = was
    if base.config._attn_implementation != NAME:
        base.set_attn_implementation(NAME)
    return _ways[base]


def _prove(base: PreTrainedModel) -> Way:
    ids = probe(base, PROBE)
    base.set_attn_implementation("eager")
    alone = torch.cat([hidden_of(base(**arguments_for(base, {"input_ids": one[None]})))[0] for one in ids])
    if not bool(alone.isfinite().all()):
        raise ValueError(
            f"{type(base).__name__}: expected finite hidden states, got NaN or infinity from a few tokens; its weights are "
            "damaged: load them again"
        )
    base.set_attn_implementation(NAME)
    padding = base.config.get_text_config().pad_token_id
    takes_positions = "position_ids" in _parameters(type(base))
    ways = [Way(True, 0)] if takes_positions else [Way(True)]
    if takes_positions and padding is not None:
        ways.append(Way(True, padding + 1, padding))
    reasons = {}
    for way in [*ways, Way(False)]:
        calls = []
        try:
            with watching(lambda *_, calls=calls: calls.append(1)):
                found = _forward(base, ids, way) if way.packed else _in_runs(base, ids)
        except (ValueError, IndexError, RuntimeError, TypeError) as error:
            reasons[str(error)] = None
            continue
        if not calls:
            raise ValueError(
                f"{type(base).__name__}: expected attention through transformers' interface, but this model computes its own; "
                "it cannot run without padding: use it as it is"
            )
        if _close(found, alone):
            return way
    detail = "; ".join(reasons) or "each sequence got something else than alone"
    raise ValueError(f"{type(base).__name__}: cannot run without padding: {detail}; use it as it is")


def probe(base: PreTrainedModel, lengths: tuple[int, ...]) -> Sequences:
    """A few sequences of ordinary token ids: none of those with a meaning of their own."""
    config = base.config.get_text_config()
    special = {
        getattr(config, name, None)
        for name in ("pad_token_id", "bos_token_id", "eos_token_id", "mask_token_id")
    }
    ids = [i for i in range(min(config.vocab_size, 100)) if i not in special]
    rows = torch.tensor([ids[7 * i % len(ids)] for i in range(sum(lengths))], device=base.device)
    return Sequences(rows, [0, *torch.tensor(lengths).cumsum(0).tolist()])


def _close(found: Tensor, expected: Tensor) -> bool:
    worst = (found.double() - expected.double()).abs().max()
    return bool(worst <= CLOSE.get(found.dtype, 1e-2) * expected.double().abs().max().clamp_min(1e-6))


# --- one call -----------------------------------------------------------------------------------------------------------


def _forward(base: PreTrainedModel, batch: Sequences, way: Way) -> Tensor:
    """The hidden rows [T, E] of one packed batch."""
    ids = batch.values[None]
    arguments = {"input_ids": ids}
    if way.first is not None:
        arguments["position_ids"] = _positions(batch, way)[None]
    with packing(batch):
        return hidden_of(base(**arguments_for(base, arguments)))[0]


def _in_runs(base: PreTrainedModel, batch: Sequences) -> Tensor:
    """The same by batches of equal lengths, which need neither padding nor a mask."""
    rows = []
    for first, count, length in batch.runs:
        if length:
            ids = batch[first : first + count].values.view(count, length)
            rows.append(hidden_of(base(**arguments_for(base, {"input_ids": ids}))).flatten(0, 1))
    return torch.cat(rows)


@contextmanager
def packing(batch: Sequences) -> Iterator[None]:
    """Within it, attention of this thread's models takes its rows to be this batch's."""
    token = packing_in_use.set(Packing(batch.offsets, batch.offsets))
    try:
        yield
    finally:
        packing_in_use.reset(token)


def _positions(batch: Sequences, way: Way) -> Tensor:
    if way.padding is None:
        return batch.positions + way.first
    real = (batch.values != way.padding).long()  # as RoBERTa counts: a padding token has no number of its own
    count = torch.cat([real.new_zeros(1), real.cumsum(0)])
    before = count[batch.offsets[:-1].to(count.device)][batch.sequence_ids]
    return (count[1:] - before) * real + way.padding


def hidden_of(outputs) -> Tensor:
    return outputs.last_hidden_state if hasattr(outputs, "last_hidden_state") else outputs[0]


@lru_cache(64)
def _parameters(kind: type) -> frozenset[str]:
    return frozenset(inspect.signature(kind.forward).parameters)


def arguments_for(base: PreTrainedModel, given: dict) -> dict:
    return {**given, "use_cache": False} if "use_cache" in _parameters(type(base)) else given


def base_of(model: PreTrainedModel) -> PreTrainedModel:
    """The part that turns tokens into hidden states."""
    if not isinstance(model, PreTrainedModel):
        raise TypeError(
            f"run: expected a Hugging Face model, got {type(model).__name__}; load one with AutoModel.from_pretrained"
        )
    if model.config.is_encoder_decoder:
        return model.get_encoder()
    base = model.base_model
    return getattr(model, "model", model) if base is model else base


def _as_sequences(sequences: Iterable | Sequences) -> Sequences:
    if isinstance(sequences, Sequences):
        return sequences
    rows = [torch.as_tensor(one, dtype=torch.int64) for one in sequences]
    return Sequences.from_list(rows) if rows else Sequences(torch.zeros(0, dtype=torch.int64), [0])


def _check_lengths(base: PreTrainedModel, way: Way, lengths: Tensor) -> None:
    limit = positions(base, way)
    if limit is not None and len(lengths) and int(lengths.max()) > limit:
        raise ValueError(
            f"{type(base).__name__}: expected at most {limit} tokens, as many as it has positions for, got "
            f"{int(lengths.max())} in sequence {int(lengths.argmax())}; cut it, or use another model"
        )


def positions(base: PreTrainedModel, way: Way) -> int | None:
    """How many positions the model has learned; None where they are computed and have no end."""
    first = way.first or 0
    for name, part in base.named_modules():
        last = name.rpartition(".")[2]
        learned = last == "wpe" or "position" in last and "relative" not in last
        if learned and isinstance(part, nn.Embedding):
            return part.num_embeddings - first
    return None


# --- padded calls, packed inside ----------------------------------------------------------------------------------------

ROWS = {
    "input_ids",
    "inputs_embeds",
    "token_type_ids",
    "position_ids",
}  # arguments with one entry for each token


def _unpadding(whole: Callable) -> Callable:
    """The model's forward, which packs a padded call, and puts every output's rows back to where they were padded."""

    @wraps(whole)
    def forward(self, *args, **kwargs):
        call = _packable(self, whole, args, kwargs)
        if call is None:
            return whole(self, *args, **kwargs)
        batch, rows, shape, arguments = call
        with packing(batch):
            outputs = whole(self, **arguments_for(self, arguments))
        for name in list(outputs.keys()):
            outputs[name] = _back(outputs[name], rows, shape)
        if outputs.get("pooler_output") is not None:  # made from the first token of the one long row
            outputs["pooler_output"] = self.pooler(outputs["last_hidden_state"])
        return outputs

    forward.whole = whole
    return forward


def _packable(base: PreTrainedModel, whole: Callable, args: tuple, kwargs: dict):
    """(sequences, rows kept, padded shape, packed arguments) of a call that can be packed, else None."""
    if base.config._attn_implementation != NAME or packing_in_use.get() is not None:
        return None
    given = dict(inspect.signature(whole).bind_partial(base, *args, **kwargs).arguments)
    given.update(given.pop("kwargs", {}))
    given = {name: value for name, value in given.items() if value is not None and name != "self"}
    mask, tokens = given.pop("attention_mask", None), given.get("input_ids", given.get("inputs_embeds"))
    if not (
        isinstance(mask, Tensor) and mask.dim() == 2 and tokens is not None and mask.shape == tokens.shape[:2]
    ):
        return None
    plain = all(name in ROWS or _is_a_setting(value) for name, value in given.items())
    padded = bool((mask[:, :-1] >= mask[:, 1:]).all()) and not bool(mask.all())  # on the right, and at all
    asked = given.get("use_cache") or given.get("output_attentions") or given.get("return_dict") is False
    again = base.training and any(getattr(part, "gradient_checkpointing", False) for part in base.modules())
    if not (plain and padded) or asked or again:
        return None
    way = way_of(base)
    rows = mask.flatten().nonzero().flatten()
    packed = {name: given[name].expand(*mask.shape, *given[name].shape[2:]) for name in ROWS & given.keys()}
    packed = {name: value.flatten(0, 1).index_select(0, rows)[None] for name, value in packed.items()}
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), mask.sum(1).long().cpu().cumsum(0)])
    batch = Sequences(packed["input_ids"][0] if "input_ids" in packed else rows, offsets)
    if way.first is not None and "position_ids" not in packed:
        counted = way if "input_ids" in packed else Way(True, way.first)
        packed["position_ids"] = _positions(batch, counted)[None]
    return batch, rows, mask.shape, {**given, **packed}


def _is_a_setting(value) -> bool:
    return isinstance(value, (bool, str, int, float)) or isinstance(value, Tensor) and value.dim() == 0


def _back(value, rows: Tensor, shape: tuple[int, int]):
    if isinstance(value, Tensor) and value.shape[:2] == (1, len(rows)):
        out = value.new_zeros(shape[0] * shape[1], *value.shape[2:])
        return out.index_copy(0, rows, value[0]).unflatten(0, shape)
    if isinstance(value, (tuple, list)):
        return type(value)(_back(one, rows, shape) for one in value)
    return value
