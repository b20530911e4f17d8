"""Which rows a model's head reads: whether values in rows of padding can change the outputs of a call.

A packed call has no values in rows of padding, and the attention leaves them out where that saves work. Most heads
never show them: they give one row per token, or read the first or last token of each text. Others do: a mean over all
rows, the last row, a loss whose labels are not -100 on padding. There is no table of heads: a head runs twice on a few
tokens, with two different fillings of the rows of padding, and outputs that differ depend on them. Labels and ids are
examined in every call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import FunctionType

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from sightline.huggingface.base_model import base_of, device_of, mask_of_rows, real_rows, tensors_in, uncompiled
from sightline.huggingface.caller_packing import outermost_call
from sightline.huggingface.row_layout import NAME, proving
from sightline.huggingface.twin import plain_class, try_on_twin

ROWS = {"input_ids", "inputs_embeds", "token_type_ids", "position_ids"}  # one entry for each token
LENGTHS = (5, 9, 2)  # of the texts of a trial
MOST_KNOWN = 1000


@dataclass(frozen=True)
class Head:
    """The result of a trial: `whole_texts` says that some output has no row per token."""

    whole_texts: bool
    reads_padding: bool
    known: bool = True


UNKNOWN = Head(whole_texts=True, reads_padding=True, known=False)
_heads: dict[tuple, Head] = {}


@uncompiled  # it depends on which tokens are real
def needs_padding(mask: Tensor, ids: Tensor | None = None) -> bool:
    """Whether outputs of the running call may depend on the rows where mask [B, L] is 0.

    `ids` [B, L] are the tokens of the mask; None: those of the outermost model.
    """
    if proving.get():  # a trial
        return False
    mask = mask != 0
    if not bool(mask.any(1).all()):  # a text without a token: whatever is read of it is padding
        return True
    call = outermost_call()
    if call is None or base_of(call[0]) is call[0]:  # a base documents that rows of padding are unspecified
        return False
    arguments = {name: value for name, value in call[1].items() if value is not None and value is not False}
    return _may_read_padding(call[0], arguments, mask, ids)


def _may_read_padding(model: PreTrainedModel, arguments: dict, mask: Tensor, ids: Tensor | None) -> bool:
    if _keeps_padding(arguments.get("logits_to_keep", arguments.get("num_logits_to_keep")), mask):
        return True
    labels, others = {}, {}
    for name, value in arguments.items():
        if not _is_plain(name):
            (labels if "label" in name and isinstance(value, Tensor) else others)[name] = value
    if any(value.shape == mask.shape and bool((value != -100)[~mask].any()) for value in labels.values()):
        return True
    if any(not isinstance(value, Tensor) for value in others.values()):
        return True
    side = side_of_padding(mask)
    head = head_of(model, arguments, mask, {**labels, **others}, side or "right")
    if side is None and (labels or head.whole_texts):  # holes: a row may be read whose next one is real
        return True
    if head.whole_texts and (others or not _has_padding_tokens(model, arguments, mask, ids)):
        return True
    return head.reads_padding


def side_of_padding(mask: Tensor) -> str | None:
    """The side of the padding; None for both, or for holes."""
    if bool((mask[:, :-1] | ~mask[:, 1:]).all()):
        return "right"
    return "left" if bool((mask[:, 1:] | ~mask[:, :-1]).all()) else None


def gives_tuple() -> bool:
    """Whether the running call returns a tuple, in which a missing cache would move the other outputs."""
    call = outermost_call()
    return call is not None and call[1].get("return_dict", getattr(call[0].config, "return_dict", True)) is False


def refuse_whole_texts(model: PreTrainedModel) -> None:
    """Raises ValueError for a head with one answer per row, since a packed row holds many texts."""
    head = Head(False, False) if base_of(model) is model else head_of(model, {}, torch.ones(1, 1), {}, "right")
    if head.whole_texts and head.known:
        raise ValueError(
            f"{type(model).__name__}: expected padded input, got packed texts in one row, for which it gives one "
            "answer and not one for each text; call sightline.huggingface.unpad(model) and give it padded input"
        )


def _is_plain(name: str) -> bool:
    """Whether an argument is the input of the base, or changes no row."""
    known = ROWS | {"attention_mask", "past_key_values", "use_cache", "cache_position", "return_dict", "self"}
    known |= {"logits_to_keep", "num_logits_to_keep", "num_items_in_batch", "encoder_outputs"}
    of_others = ("output_", "decoder_", "cu_seq_lens", "max_length")
    return name in known or name.startswith(of_others)


def _keeps_padding(kept, mask: Tensor) -> bool:
    if kept is None or isinstance(kept, int) and kept == 0:
        return False
    rows = mask[:, -kept:] if isinstance(kept, int) else mask[:, kept.to(mask.device)]
    return not bool(rows.all())


def _has_padding_tokens(model: PreTrainedModel, arguments: dict, mask: Tensor, ids: Tensor | None) -> bool:
    """Whether all padding is the padding token, by which heads find the end of a text."""
    padding = getattr(model.config.get_text_config(), "pad_token_id", None)
    input_ids = arguments.get("input_ids")
    ids = input_ids if ids is None else ids
    if padding is None or not isinstance(input_ids, Tensor) or ids is None or ids.numel() != mask.numel():
        return False
    return bool((ids.reshape(mask.shape)[~mask] == padding).all())


# --- the trial --------------------------------------------------------------------------------------------------------


def head_of(model: PreTrainedModel, arguments: dict, mask: Tensor, more: dict[str, Tensor], side: str) -> Head:
    """What the model's head does with `more` arguments, by a trial at their first use."""
    ids = arguments.get("input_ids")
    choices = ids.shape[1] if isinstance(ids, Tensor) and ids.dim() == 3 else None
    embedded = ids is None and "inputs_embeds" in arguments
    like = {}
    for name, value in sorted(more.items()):
        per_token = value.shape == mask.shape
        like[name] = per_token, value.dtype, () if per_token else tuple(value.shape[1:])
    key = (_structure(model), choices, embedded, side, tuple(like.items()))
    if key not in _heads:
        if len(_heads) >= MOST_KNOWN:  # settings that change from call to call
            _heads.clear()
        try:
            _heads[key] = try_on_twin(model, lambda twin: _try(twin, choices, embedded, side, like))
        except Exception:  # it needs more than text: nothing is known of it, and nothing is assumed
            _heads[key] = UNKNOWN
    return _heads[key]


def _structure(model: PreTrainedModel) -> tuple:
    """What determines which rows a head reads: its class, its parts and all their settings, but no weight."""
    forward = getattr(model.forward, "__func__", model.forward)
    parts = tuple((name, type(part), _settings(part)) for name, part in _above(model, base_of(model)))
    return plain_class(type(model)), forward, _settings(model), _settings(model.config), parts


def _settings(thing) -> frozenset:
    """The attributes that are plain values or functions, except whether it is training."""
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
    ids, mask = (t.to(device) for t in _ids_and_mask(twin, side))
    arguments = {"input_ids": ids, "attention_mask": mask.long()}
    for name, (per_token, dtype, shape) in like.items():
        value = torch.zeros(mask.shape if per_token else (len(mask), *shape), dtype=dtype, device=device)
        arguments[name] = value.masked_fill(~mask, -100) if per_token else value
    if twin.config.is_encoder_decoder and "labels" not in arguments:
        arguments["decoder_input_ids"] = ids[:, :2]
    if choices is not None:
        for name in ("input_ids", "attention_mask"):
            arguments[name] = arguments[name][:, None].repeat(1, choices, 1)
        mask = mask.repeat_interleave(choices, 0)
    if embedded:
        arguments["inputs_embeds"] = twin.get_input_embeddings()(arguments.pop("input_ids"))
    below = ([base], [part for part in twin.modules() if isinstance(part, PreTrainedModel) and part is not twin])
    first, second = next(filter(None, (_with_two_fillings(twin, arguments, parts, mask) for parts in below)))
    whole_texts = any(mask_of_rows(t, mask) is None and t.dim() > 0 for t in first)
    same = all(_same(real_rows(a, mask), real_rows(b, mask)) for a, b in zip(first, second, strict=True))
    return Head(whole_texts, not same)


def _with_two_fillings(
    twin: PreTrainedModel, arguments: dict, parts: Sequence[nn.Module], mask: Tensor
) -> tuple[list[Tensor], list[Tensor]] | None:
    """The model's outputs under two fillings of rows of padding in the outputs of `parts`; None if it calls none."""
    results, calls = [], []
    for seed in (0, 1):

        def fill(*call, seed=seed):
            calls.append(seed)
            return _filled(call[-1], mask, seed)

        hooks = [part.register_forward_hook(fill) for part in parts]
        results.append(list(tensors_in(twin(**arguments))))
        for hook in hooks:
            hook.remove()
    return tuple(results) if calls else None


def _ids_and_mask(model: PreTrainedModel, side: str) -> tuple[Tensor, Tensor]:
    """Ids [3, 11] of texts with the model's end token, and their mask."""
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
    """The base's outputs with other numbers in rows of padding."""

    def fill(value):
        if isinstance(value, tuple | list):
            return type(value)(fill(one) for one in value)
        rows = mask_of_rows(value, mask) if isinstance(value, Tensor) and value.is_floating_point() else None
        if rows is None:
            return value
        noise = torch.arange(value.numel(), device=value.device).view(value.shape).mul(seed + 1.3).sin().mul(10)
        return torch.where(rows.view(*rows.shape, *[1] * (value.dim() - rows.dim())), value, noise.to(value.dtype))

    if isinstance(outputs, tuple):
        return fill(outputs)
    for name in list(outputs.keys()):
        outputs[name] = fill(outputs[name])
    return outputs


def _same(first: Tensor, second: Tensor) -> bool:
    if not first.is_floating_point():
        return torch.equal(first, second)
    first, second = first.double(), second.double()
    return bool((first - second).abs().max() <= 1e-6 * first.abs().max()) if first.numel() else True
