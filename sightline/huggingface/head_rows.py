"""Which rows a model's head reads: whether the values in rows of padding can change what a call gives back.

Packed inside, a call has no values in rows of padding, and the attention leaves them out where that saves work. Most heads never
show them: they give one row for each token, or read each text's first or last one. Others do (a mean over all rows, the last row,
a loss whose labels are not -100 on padding). No table of heads is kept: a head is run twice on a few tokens, with two
different fillings of the rows of padding, and what differs depends on them. Labels and ids are looked at in every call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from types import FunctionType

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from sightline.huggingface.caller_packing import outermost_call
from sightline.huggingface.packability import base_of, device_of
from sightline.huggingface.row_layout import NAME, proving
from sightline.huggingface.twin import apart, plain_class

ROWS = {"input_ids", "inputs_embeds", "token_type_ids", "position_ids"}  # one entry for each token
LENGTHS = (5, 9, 2)  # of the texts that a head is tried on
MOST_KNOWN = 1000


@dataclass(frozen=True)
class Head:
    """What a head is found to do: `whole_texts` says that it gives answers that are not one row for each token."""

    whole_texts: bool
    reads_padding: bool
    known: bool = True


UNKNOWN = Head(whole_texts=True, reads_padding=True, known=False)
_heads: dict[tuple, Head] = {}


@torch.compiler.disable  # it depends on what is real
def needs_padding(mask: Tensor, ids: Tensor | None = None) -> bool:
    """Whether the running call may give back something that depends on the rows where mask [B, L] is 0.

    `ids` [B, L] are those that the mask belongs to, if the caller has them; else they are the head's own.
    """
    if proving.get():  # a trial
        return False
    mask = mask != 0
    if not bool(mask.any(1).all()):  # a text without a token: whatever is read of it is padding
        return True
    call = outermost_call()
    if call is None or base_of(call[0]) is call[0]:  # rows of padding are documented to hold nothing
        return False
    model, given = call
    given = {name: value for name, value in given.items() if value is not None and value is not False}
    if _keeps_padding(given.get("logits_to_keep", given.get("num_logits_to_keep")), mask):
        return True
    labels, others = {}, {}
    for name, value in given.items():
        if _is_plain(name, value):
            continue
        (labels if "label" in name and isinstance(value, Tensor) else others)[name] = value
    for value in labels.values():
        if value.shape == mask.shape and bool((value != -100)[~mask].any()):
            return True
    if any(not isinstance(value, Tensor) for value in others.values()):
        return True
    side = side_of_padding(mask)
    head = head_of(model, given, mask, {**labels, **others}, side or "right")
    if side is None and (labels or head.whole_texts):  # holes: a row may be read whose next one is real
        return True
    if head.whole_texts and (others or not _padded_by_the_book(model, given, mask, ids)):
        return True
    return head.reads_padding


def side_of_padding(mask: Tensor) -> str | None:
    """Where the padding is, if it is on one side only."""
    if bool((mask[:, :-1] | ~mask[:, 1:]).all()):
        return "right"
    return "left" if bool((mask[:, 1:] | ~mask[:, :-1]).all()) else None


def gives_tuple() -> bool:
    """Whether the running call gives a tuple back, in which a cache that is left out would change the places of the others."""
    call = outermost_call()
    return call is not None and call[1].get("return_dict", getattr(call[0].config, "return_dict", True)) is False


def refuse_whole_texts(model: PreTrainedModel) -> None:
    """Raises ValueError for a head that gives an answer for each row, since a packed row holds many texts."""
    head = Head(False, False) if base_of(model) is model else head_of(model, {}, torch.ones(1, 1), {}, "right")
    if head.whole_texts and head.known:
        raise ValueError(
            f"{type(model).__name__}: expected padded input, got packed texts in one row, for which it gives one answer "
            "and not one for each text; call sightline.huggingface.unpad(model) and give it padded input"
        )


def _is_plain(name: str, value) -> bool:
    """Arguments that change no row and are no row."""
    known = ROWS | {"attention_mask", "past_key_values", "use_cache", "cache_position", "return_dict", "self"}
    known |= {"logits_to_keep", "num_logits_to_keep", "num_items_in_batch", "encoder_outputs"}
    of_others = ("output_", "decoder_", "cu_seq_lens", "max_length")
    return name in known or name.startswith(of_others)


def _keeps_padding(kept, mask: Tensor) -> bool:
    if kept is None or isinstance(kept, int) and kept == 0:
        return False
    rows = mask[:, -kept:] if isinstance(kept, int) else mask[:, kept.to(mask.device)]
    return not bool(rows.all())


def _padded_by_the_book(model: PreTrainedModel, given: dict, mask: Tensor, ids: Tensor | None) -> bool:
    """Whether all padding is the padding token, by which heads find a text's end."""
    padding = getattr(model.config.get_text_config(), "pad_token_id", None)
    ids = given.get("input_ids") if ids is None else ids
    if padding is None or not isinstance(given.get("input_ids"), Tensor) or ids.numel() != mask.numel():
        return False
    return bool((ids.reshape(mask.shape)[~mask] == padding).all())


# --- the trial ----------------------------------------------------------------------------------------------------------


def head_of(model: PreTrainedModel, given: dict, mask: Tensor, tried: dict[str, Tensor], side: str) -> Head:
    """What the model's head does with these arguments, found when first asked."""
    of_tokens = {name: value.shape == mask.shape for name, value in tried.items()}
    ids = given.get("input_ids")
    choices = ids.shape[1] if isinstance(ids, Tensor) and ids.dim() == 3 else None
    embedded = ids is None and "inputs_embeds" in given
    like = {name: (of_tokens[name], value.dtype, tuple(value.shape[1:])) for name, value in tried.items()}
    like = {name: (tokens, kind, () if tokens else shape) for name, (tokens, kind, shape) in like.items()}
    key = (_structure(model), choices, embedded, side, tuple(sorted(like.items(), key=lambda item: item[0])))
    if key not in _heads:
        if len(_heads) >= MOST_KNOWN:  # settings that change from call to call
            _heads.clear()
        try:
            _heads[key] = apart(model, lambda twin: _try(twin, choices, embedded, side, like))
        except Exception:  # whatever it needs beside text: nothing is known of it, and nothing is taken for granted
            _heads[key] = UNKNOWN
    return _heads[key]


def _structure(model: PreTrainedModel) -> tuple:
    """What decides which rows a head reads: its class, its parts and all their settings, but no weight."""
    forward = getattr(model.forward, "__func__", model.forward)
    parts = tuple((name, type(part), _settings(part)) for name, part in _above(model, base_of(model)))
    return plain_class(type(model)), forward, _settings(model), _settings(model.config), parts


def _settings(thing) -> frozenset:
    """What is set on it by plain values and by functions, beside whether it is training."""
    plain = (str, int, float, bool, type(None), FunctionType)
    return frozenset((k, v) for k, v in vars(thing).items() if isinstance(v, plain) and k != "training")


def _above(model: nn.Module, base: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    for child, part in model.named_children():
        if part is not base:
            yield f"{name}.{child}", part
            yield from _above(part, base, f"{name}.{child}")


def _try(twin: PreTrainedModel, choices: int | None, embedded: bool, side: str, like: dict) -> Head:
    twin.set_attn_implementation(NAME)  # eager attention gives NaN in float64 where a query sees nothing
    base, device = base_of(twin), device_of(twin)
    ids, mask = (t.to(device) for t in _probe(twin, side))
    given = {"input_ids": ids, "attention_mask": mask.long()}
    for name, (of_tokens, dtype, shape) in like.items():
        value = torch.zeros(mask.shape if of_tokens else (len(mask), *shape), dtype=dtype, device=device)
        given[name] = value.masked_fill(~mask, -100) if of_tokens else value
    if twin.config.is_encoder_decoder and "labels" not in given:
        given["decoder_input_ids"] = ids[:, :2]
    if choices is not None:
        for name in ("input_ids", "attention_mask"):
            given[name] = given[name][:, None].repeat(1, choices, 1)
        mask = mask.repeat_interleave(choices, 0)
    if embedded:
        given["inputs_embeds"] = twin.get_input_embeddings()(given.pop("input_ids"))
    below = ([base], [part for part in twin.modules() if isinstance(part, PreTrainedModel) and part is not twin])
    first, second = next(filter(None, (_with_two_fillings(twin, given, parts, mask) for parts in below)))
    whole = any(_rows_of(t, mask) is None and t.dim() > 0 for t in first)
    same = all(_same(_real(a, mask), _real(b, mask)) for a, b in zip(first, second, strict=True))
    return Head(whole, not same)


def _with_two_fillings(
    twin: PreTrainedModel, given: dict, parts: list[nn.Module], mask: Tensor
) -> tuple[list[Tensor], list[Tensor]] | None:
    """What the model gives with other numbers in the rows of padding that these parts give it; None if it calls none of them."""
    results, calls = [], []
    for seed in (0, 1):

        def fill(*call, seed=seed):
            calls.append(seed)
            return _filled(call[-1], mask, seed)

        hooks = [part.register_forward_hook(fill) for part in parts]
        results.append(list(_tensors(twin(**given))))
        for hook in hooks:
            hook.remove()
    return tuple(results) if calls else None


def _probe(model: PreTrainedModel, side: str) -> tuple[Tensor, Tensor]:
    """Ids [3, 11] with texts that end as the model's texts end, and their mask."""
    config = model.config.get_text_config()
    padding, end = (getattr(config, name, None) for name in ("pad_token_id", "eos_token_id"))
    mask = torch.arange(max(LENGTHS) + 2) < torch.tensor(LENGTHS)[:, None]
    mask[1, :] = True
    special = {padding, end, *(getattr(config, f"{name}_token_id", None) for name in ("bos", "cls", "mask", "sep"))}
    ordinary = torch.tensor([i for i in range(min(config.vocab_size, 100)) if i not in special])
    ids = ordinary[(7 * torch.arange(mask.numel()) % len(ordinary)).view(mask.shape)]
    if isinstance(end, int) and end != padding and end < config.vocab_size:
        ids[torch.arange(len(ids)), mask.sum(1) - 1] = end
    ids[~mask] = 0 if padding is None else padding
    return (ids, mask) if side == "right" else (ids.flip(1), mask.flip(1))


def _filled(outputs, mask: Tensor, seed: int):
    """The base's outputs with other numbers in the rows of padding."""

    def fill(value):
        if isinstance(value, tuple | list):
            return type(value)(fill(one) for one in value)
        rows = _rows_of(value, mask) if isinstance(value, Tensor) and value.is_floating_point() else None
        if rows is None:
            return value
        noise = torch.arange(value.numel(), device=value.device).view(value.shape).mul(seed + 1.3).sin().mul(10)
        return torch.where(rows.view(*rows.shape, *[1] * (value.dim() - rows.dim())), value, noise.to(value.dtype))

    if isinstance(outputs, tuple):
        return fill(outputs)
    for name in list(outputs.keys()):
        outputs[name] = fill(outputs[name])
    return outputs


def _rows_of(value: Tensor, mask: Tensor) -> Tensor | None:
    """Which rows of the tensor are real, where it has one for each token: [B, L, ...] or [B * L, ...]."""
    if value.shape[:2] == mask.shape:
        return mask
    return mask.flatten() if value.dim() and len(value) == mask.numel() else None


def _real(value: Tensor, mask: Tensor) -> Tensor:
    rows = _rows_of(value, mask)
    return value if rows is None else value[rows]


def _tensors(value) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from chain.from_iterable(map(_tensors, value.values()))
    elif isinstance(value, tuple | list):
        yield from chain.from_iterable(map(_tensors, value))


def _same(first: Tensor, second: Tensor) -> bool:
    if not first.is_floating_point():
        return torch.equal(first, second)
    first, second = first.double(), second.double()
    return bool((first - second).abs().max() <= 1e-6 * first.abs().max()) if first.numel() else True
