"""What a fitted model predicts for the text of a page: "predicts" in the data of a look."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from sightline.models import Text
from sightline.sequences import Sequences
from sightline.tasks import Classify, Language, Regress, Tag, Tokenizer
from sightline.training import Model

CHOICES = 5  # of many labels or tokens


def prediction(model: nn.Module, encodings: Sequences, text: Text, per_token: bool = True) -> dict[str, Any] | None:
    """The answer of a fitted model's task for one text, with probabilities where it has some; None for other models.

    `per_token` is False where the scores of each token would be too large: then tasks that answer for each have none.
    Returns: {column, choices: [[label, probability]], likeliest first, and of: how many there are};
    or {column, values: [number]}; or {column, tags: for each word [tag, probability], from its first piece};
    or {choices, of} of the next token.
    """
    if not isinstance(model, Model) or not per_token and model.task.pool is None:
        return None
    task, scores = model.task, model.readout(encodings)  # [1, outputs] for the whole text, or [T, outputs]
    if isinstance(task, Regress):
        value = task.answers(scores)[0]["value"]
        return {"column": task.label, "values": value if isinstance(value, list) else [value]}
    if isinstance(task, Classify):
        return {"column": task.label} | _choices(scores[0], task.labels.__getitem__)
    if isinstance(task, Tag):
        first = [next(pieces) for _, pieces in groupby(range(len(text.word_of)), text.word_of.__getitem__)]
        best = scores[torch.tensor(first)].float().softmax(-1).max(-1)
        tags = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return {"column": task.label, "tags": [[str(task.labels[i]), round(p, 6)] for i, p in tags]}
    if isinstance(task, Language) and model.tokenizer:
        return _choices(scores[-1], partial(_token, model.tokenizer))
    raise TypeError(f"prediction: expected a task that answers, got {type(task).__name__}; add it here")


def _choices(scores: Tensor, name: Callable[[int], object]) -> dict[str, Any]:
    likely = scores.float().softmax(-1).topk(min(CHOICES, len(scores)))
    pairs = zip(likely.indices.tolist(), likely.values.tolist(), strict=True)
    return {"choices": [[str(name(i)), round(p, 6)] for i, p in pairs], "of": len(scores)}


def _token(tokenizer: Tokenizer, number: int) -> str:
    """The text of an id."""
    if number == tokenizer.end:
        return "<end>"
    return tokenizer.engine.decode([number]) or tokenizer.engine.id_to_token(number) or str(number)
