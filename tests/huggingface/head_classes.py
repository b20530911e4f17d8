"""Every head class of every family: small models, calls that try all outputs, and the comparison with eager."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import transformers
from torch import Tensor
from transformers import CONFIG_MAPPING, PreTrainedModel

from sightline.huggingface.base_model import tensors_in
from tests.huggingface.families import FAMILIES, SPECIAL, VOCABULARY, configuration, drawn_model

LENGTHS = (7, 3, 13, 1)
LABELS = 3
CLOSE = 1e-9  # relative to the largest value
HEADS = {  # class of heads -> name in `transformers.AutoModelFor...`
    "model": "",
    "causal LM": "ForCausalLM",
    "masked LM": "ForMaskedLM",
    "seq2seq LM": "ForSeq2SeqLM",
    "pretraining": "ForPreTraining",
    "texts": "ForSequenceClassification",
    "tokens": "ForTokenClassification",
    "answers": "ForQuestionAnswering",
    "choices": "ForMultipleChoice",
    "next sentence": "ForNextSentencePrediction",
}


def class_of(family: str, head: str) -> type[PreTrainedModel] | None:
    """The family's class with this head, if it has one."""
    mapping = getattr(transformers, f"AutoModel{HEADS[head]}")._model_mapping
    kind = CONFIG_MAPPING[family]
    if kind not in mapping:
        return None
    classes = mapping[kind]
    return classes[0] if isinstance(classes, tuple) else classes


def build(family: str, head: str, dtype: torch.dtype = torch.float64, **settings) -> PreTrainedModel:
    special = SPECIAL.get(family, {}) | ({"num_labels": LABELS} if head in ("texts", "tokens") else {}) | settings
    return drawn_model(class_of(family, head), configuration(CONFIG_MAPPING[family], special), family, dtype)


def texts(head: str, family: str, side: str = "right") -> tuple[dict[str, Tensor], Tensor]:
    """A padded batch for the head, and which of its B * L rows are real."""
    draw = torch.Generator().manual_seed(len(family))
    mask = torch.arange(max(LENGTHS) + (side != "right")) < torch.tensor(LENGTHS)[:, None]
    ids = torch.randint(4, VOCABULARY, mask.shape, generator=draw)
    if FAMILIES[family] == "pair":
        ids[torch.arange(len(ids)), mask.sum(1) - 1] = 2  # as these look for a text's end
    ids = ids.masked_fill(~mask, 0)
    if side == "left":
        ids, mask = ids.flip(1), mask.flip(1)
    arguments = {"input_ids": ids, "attention_mask": mask.long()}
    if head == "choices":
        arguments = {name: value.unflatten(0, (2, 2)) for name, value in arguments.items()}
    elif FAMILIES[family] == "pair" and head not in ("texts", "answers", "causal LM"):
        arguments["decoder_input_ids"] = ids[:, :4].clamp_min(4)
    return arguments, mask


def labels(head: str, arguments: dict[str, Tensor], mask: Tensor, on_padding: bool) -> dict[str, Tensor]:
    """Answers for the head's loss; of its tokens, also for those of padding if `on_padding`."""
    if "decoder_input_ids" in arguments:
        return {
            "labels": arguments["decoder_input_ids"] % LABELS if head == "tokens" else arguments["decoder_input_ids"]
        }
    batch = len(mask)
    tokens = torch.arange(mask.numel()).view(mask.shape) % (LABELS if head == "tokens" else VOCABULARY)
    tokens = tokens if on_padding else tokens.masked_fill(~mask, -100)
    if head in ("causal LM", "masked LM", "tokens"):
        return {"labels": tokens}
    if head == "pretraining":
        return {"labels": tokens}
    if head == "answers":
        return {"start_positions": torch.zeros(batch).long(), "end_positions": mask.sum(1) - 1}
    return {
        "texts": {"labels": torch.arange(batch) % LABELS},
        "choices": {"labels": torch.tensor([0, 1])},
        "next sentence": {"labels": torch.arange(batch) % 2},
    }.get(head, {})


def differences(actual, expected, mask: Tensor, close: float = CLOSE) -> list[str]:
    """What differs between two calls' outputs, beside what stands in rows of padding."""
    if isinstance(expected, tuple):
        actual, expected = ({str(i): one for i, one in enumerate(outputs)} for outputs in (actual, expected))
    names = [n for n, value in expected.items() if value is not None and "past" not in n and n != "mems"]
    wrong = [name for name in names if actual.get(name) is None]
    for name in set(names) - set(wrong):
        pairs = list(zip(tensors_in(actual[name]), tensors_in(expected[name]), strict=False))
        same = len(list(tensors_in(actual[name]))) == len(list(tensors_in(expected[name])))
        if not same or not all(_same(a, b, mask, close) for a, b in pairs):
            wrong.append(name)
    return sorted(wrong)


def _same(actual: Tensor, expected: Tensor, mask: Tensor, close: float) -> bool:
    if actual.shape != expected.shape:
        return False
    if expected.shape[:2] == mask.shape:
        actual, expected = actual[mask], expected[mask]
    elif expected.shape[1:3] == mask.shape:
        actual, expected = actual[:, mask], expected[:, mask]
    elif expected.dim() > 1 and len(expected) == mask.numel():
        actual, expected = actual[mask.flatten()], expected[mask.flatten()]
    scale = float(expected.nan_to_num().abs().max()) if expected.numel() else 0.0
    return torch.allclose(actual, expected, rtol=0, atol=close * max(scale, 1e-30), equal_nan=True)


Call = tuple[str, dict[str, Tensor], Tensor]  # what it tries, its arguments, and which rows are real


def calls(family: str, head: str) -> Iterator[Call]:
    """Calls of every kind: padding, labels on it or not, texts without a token, tuples, hidden states."""
    arguments, mask = texts(head, family)
    yield "padded on the right", {**arguments, **labels(head, arguments, mask, False)}, mask
    yield "labels on padding", {**arguments, **labels(head, arguments, mask, True)}, mask
    yield "no labels", arguments, mask
    yield "hidden states", {**arguments, "output_hidden_states": True}, mask
    yield "a tuple", {**arguments, "return_dict": False}, mask
    yield "a mask of truth values", {**arguments, "attention_mask": arguments["attention_mask"].bool()}, mask
    left, at = texts(head, family, "left")
    yield "padded on the left", {**left, **labels(head, left, at, False)}, at
    yield "labels on padding on the left", {**left, **labels(head, left, at, True)}, at
    other = arguments["input_ids"].masked_fill(~mask.view(arguments["input_ids"].shape), 7)
    yield "other tokens on padding", {**arguments, "input_ids": other, **labels(head, arguments, mask, False)}, mask
    every = torch.ones_like(mask)
    yield "no mask", {n: v.clamp_min(3) for n, v in arguments.items() if n != "attention_mask"}, every
    yield "a mask of ones", {**arguments, "attention_mask": torch.ones_like(arguments["attention_mask"])}, every
    if head == "choices":
        return
    for name, hidden in {"a text without a token": (1, slice(None)), "a hole": (2, 4)}.items():
        thin = mask.clone()
        thin[hidden] = False
        masked = {"attention_mask": thin.long(), "input_ids": arguments["input_ids"].masked_fill(~thin, 0)}
        yield name, {**arguments, **masked, **labels(head, arguments, thin, False)}, thin
    yield "a mask of zeros", {**arguments, "attention_mask": 0 * arguments["attention_mask"]}, ~every
    one = {name: value[1:2] for name, value in {**arguments, **labels(head, arguments, mask, False)}.items()}
    yield "a batch of one", one, mask[1:2]
