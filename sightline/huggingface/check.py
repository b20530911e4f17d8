"""Checks whether a model is exact under "sightline": each use of it runs beside eager attention on a few tokens."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from sightline.attention import CAUSAL, FULL, Pattern, watching
from sightline.huggingface.base_model import (
    TOLERANCES,
    arguments_for,
    base_of,
    evaluating,
    ordinary_sequences,
    real_rows,
    rows_alone,
    tensors_in,
)
from sightline.huggingface.packability import enable_packing
from sightline.huggingface.packing import run, unpad
from sightline.huggingface.row_layout import NAME, packing_in_use

LENGTHS = (7, 1, 13, 4)  # of the sequences of each trial
NEW = 6  # tokens generated
NEEDED = ("padded = eager", "run = alone")  # beside routed, for a model to be exact


@dataclass(frozen=True)
class Row:
    """One use of a model.

    `outcome` is "exact", "wrong", "refused" or "not applicable"; `error` is relative to the largest value.
    """

    what: str
    outcome: str
    error: float | None
    sentence: str


@dataclass(frozen=True)
class Checked:
    """The result of `check`: a row for each use."""

    rows: tuple[Row, ...]

    @property
    def exact(self) -> bool:
        """Whether padded input and `run` give eager's values, and no use is wrong; some may be refused."""
        outcomes = {row.what: row.outcome for row in self.rows}
        return {outcomes.get(what) for what in ("routed", *NEEDED)} == {"exact"} and "wrong" not in outcomes.values()


def check(model: PreTrainedModel) -> Checked:
    """Compares the model under "sightline" with itself under eager attention; leaves it as it was.

    Rows: routed (does it call the registered attention, and with which patterns), padded = eager (on every real token,
    padded right and left), packed = alone (in transformers' own packed form), run = alone, unpad = eager (every output
    of the model's head, and whether such a call runs packed), generate = eager (greedy tokens, padded left), gradient =
    eager (of every parameter).

    >>> from transformers import BertConfig, BertModel
    >>> small = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    >>> checked = check(BertModel(small))
    >>> checked.exact, checked.rows[0].sentence
    (True, 'full x2')
    """
    before = model.config._attn_implementation
    try:
        with evaluating(model):
            return Checked(tuple(_rows(_Trial(model))))
    finally:
        model.set_attn_implementation(before)  # pyright: ignore[reportArgumentType]  # None is allowed


def _rows(trial: _Trial) -> list[Row]:
    routed = replace(_row(trial, "routed", _Trial.routed), error=None)
    if routed.outcome != "exact":
        return [routed, *(replace(routed, what=what) for what in NEEDED)]
    return [routed, *(_row(trial, what, use) for what, use in USES.items())]


def _row(trial: _Trial, what: str, use: Callable[[_Trial], float | None]) -> Row:
    try:
        with torch.set_grad_enabled(use is _Trial.gradient):
            error = use(trial)
    except (ValueError, TypeError, RuntimeError, IndexError, NotImplementedError) as refusal:
        return Row(what, "refused", None, " ".join(str(refusal).split()))
    if error is None:
        return Row(what, "not applicable", None, "")
    if error <= trial.tolerance:
        return Row(what, "exact", error, trial.remarks.get(what, ""))
    return Row(what, "wrong", error, f"expected at most {trial.tolerance:g}")


class _Trial:
    """A model, a few sequences, and the error of each use on them."""

    def __init__(self, model: PreTrainedModel):
        self.model: Any = model  # not each has `generate`
        self.base = base_of(model)
        self.tolerance = TOLERANCES.get(model.dtype, 1e-2)
        self.ids = ordinary_sequences(self.base, LENGTHS)
        self.remarks: dict[str, str] = {}  # of a use that is exact

    def under(self, implementation: str, **arguments) -> Tensor:
        """The model's first output under one implementation."""
        self.model.set_attn_implementation(implementation)
        outputs = self.model(**arguments_for(self.model, arguments))
        return outputs[0] if outputs.get("last_hidden_state") is None else outputs.last_hidden_state

    def batch(self, side: str) -> dict[str, Tensor]:
        """The sequences padded on one side, with their mask, and some tokens for a decoder, if there is one."""
        ids, lengths = self.ids.to_padded(int(self.ids.values[0]))
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long().to(ids.device)
        if side == "left":
            shifted = (torch.arange(ids.shape[1]) + lengths[:, None]) % ids.shape[1]
            ids, mask = (t.gather(1, shifted.to(t.device)) for t in (ids, mask))
        arguments = {"input_ids": ids, "attention_mask": mask}
        if self.model.config.is_encoder_decoder and self.model.get_encoder() is not self.model:
            arguments["decoder_input_ids"] = ids[:, :5]
        return arguments

    def routed(self) -> float:
        patterns: Counter[str] = Counter()
        one = {name: value[:1] for name, value in self.batch("right").items() if name != "attention_mask"}
        with watching(lambda request, _: patterns.update([name_of(request.pattern)])):
            self.under("eager", **one)
            self.under(NAME, **one)
        if not patterns:
            name = type(self.model).__name__
            raise ValueError(f"{name} computes its own attention, not transformers' interface; use it as it is")
        self.remarks["routed"] = ", ".join(f"{name} x{count}" for name, count in patterns.items())
        return 0.0

    def padded(self) -> float:
        errors = []
        for side in ("right", "left"):
            arguments = self.batch(side)
            expected, actual = self.under("eager", **arguments), self.under(NAME, **arguments)
            real = _real_tokens(arguments)
            errors.append(_error(real_rows(actual, real), real_rows(expected, real)))
        return max(errors)

    def packed(self) -> float | None:
        if self.model.config.is_encoder_decoder:
            return None
        offsets, longest = self.ids.offsets.int().to(self.ids.values.device), int(self.ids.lengths.max())
        positions = self.ids.positions[None] + (enable_packing(self.base).first or 0)
        arguments = {"input_ids": self.ids.values[None], "position_ids": positions}
        for side in "qk":
            arguments |= {f"cu_seq_lens_{side}": offsets, f"max_length_{side}": longest}
        return _error(self.under(NAME, **arguments)[0], self.alone(self.model))

    def run(self) -> float:
        expected = self.alone(self.base)
        return _error(run(self.model, self.ids, tokens=20).values, expected)

    def alone(self, model: PreTrainedModel) -> Tensor:
        """The rows of each sequence by itself, under eager attention."""
        model.set_attn_implementation("eager")
        return rows_alone(model, self.ids)

    def unpadded(self) -> float:
        """Every output of the model and its head, on a copy that shares the weights."""
        arguments, packed = self.batch("right"), []
        real = arguments["attention_mask"].bool()
        padding = getattr(self.model.config.get_text_config(), "pad_token_id", None)
        arguments["input_ids"] = arguments["input_ids"].masked_fill(~real, 0 if padding is None else padding)
        self.model.set_attn_implementation("eager")
        expected = self.model(**arguments)
        tensors = (*self.model.parameters(), *self.model.buffers())
        copied = unpad(copy.deepcopy(self.model, {id(tensor): tensor for tensor in tensors}))
        with watching(lambda *_: packed.append(packing_in_use.get() is not None)):
            actual = copied(**arguments)
        pairs = zip(tensors_in(actual), tensors_in(expected), strict=True)
        self.remarks["unpad = eager"] = "runs packed" if any(packed) else "runs padded"
        return max(_error(real_rows(one, real), real_rows(other, real)) for one, other in pairs)

    def generate(self) -> float | None:
        if not self.model.can_generate():
            return None
        arguments = self.batch("left")
        arguments.pop("decoder_input_ids", None)
        tokens = []
        for implementation in ("eager", NAME):
            self.model.set_attn_implementation(implementation)
            tokens.append(self.model.generate(**arguments, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False))
        return float((tokens[0] != tokens[1]).any())

    def gradient(self) -> float:
        arguments = self.batch("right")
        real, gradients = _real_tokens(arguments), []
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        for implementation in ("eager", NAME):
            outputs = real_rows(self.under(implementation, **arguments), real).float()
            weights = torch.linspace(-1, 1, outputs.numel(), device=outputs.device).view_as(outputs)
            ours = torch.autograd.grad((outputs * weights).sum(), parameters, allow_unused=True)
            gradients.append([torch.zeros_like(p) if g is None else g for g, p in zip(ours, parameters, strict=True)])
        largest = max(float(g.abs().max()) for g in gradients[0] if g.numel())
        worst = max(float((a - b).abs().max()) for a, b in zip(*gradients, strict=True) if a.numel())
        return worst / largest if largest else worst


USES: dict[str, Callable[[_Trial], float | None]] = {
    "padded = eager": _Trial.padded,
    "packed = alone": _Trial.packed,
    "run = alone": _Trial.run,
    "unpad = eager": _Trial.unpadded,
    "generate = eager": _Trial.generate,
    "gradient = eager": _Trial.gradient,
}


def name_of(pattern: Pattern) -> str:
    """A pattern in words.

    >>> name_of(Pattern(3, 0)), name_of(Pattern(2, 2))
    ('causal window 4', 'window 5')
    """
    if pattern == FULL:
        return "full"
    if pattern == CAUSAL:
        return "causal"
    reach = 1 + (pattern.left or 0) + (pattern.right or 0)
    return f"causal window {reach}" if pattern.right == 0 else f"window {reach}"


def _real_tokens(arguments: dict[str, Tensor]) -> Tensor:
    """Which rows of the outputs are real: those of a decoder, where there is one, all."""
    if "decoder_input_ids" in arguments:
        return torch.ones_like(arguments["decoder_input_ids"], dtype=torch.bool)
    return arguments["attention_mask"].bool()


def _error(actual: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest value; infinite where something is not finite."""
    if actual.shape != expected.shape or not bool(expected.isfinite().all()):
        return float("inf")
    worst = float((actual.double() - expected.double()).abs().max())
    return worst / max(float(expected.double().abs().max()), 1e-30) if worst == worst else float("inf")
