"""The progress of a run: its state, which a checkpoint keeps, its budget, and its clock."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from sightline.training.config import TrainingConfig

LATER = {"evaluating", "evaluation"}  # fields of a state that earlier versions do not write
Whole = Annotated[int, Field(strict=True, ge=0, lt=2**62)]
Number = Annotated[float, Field(strict=True, ge=0, lt=2**62)]
Sums = Annotated[list[Annotated[float, Field(strict=True)]], Field(min_length=2, max_length=2)]


@dataclass
class State:
    """The progress of a run; with the tensors of a checkpoint, all that resuming needs.

    Units: `seconds` of training, without evaluating and saving; `evaluating` of all evaluations, `evaluation` of the
    last; `used` is a share of the budget.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)  # of a state read from a file

    step: Whole = 0
    tokens: Whole = 0
    seconds: Number = 0.0
    used: Number = 0.0
    evaluating: Number = 0.0
    evaluation: Number = 0.0
    since_line: Sums = field(default_factory=lambda: [0.0, 0.0])  # loss sum and targets since the last line of metrics
    best: dict | None = None  # the step and the measures of the best validation
    # Identify the data: sequences and tokens of the training data, and the fingerprints of all parts.
    data: Annotated[list, Field(min_length=2)] = field(default_factory=list)

    def passed(self, every: str) -> int:
        """Number of intervals completed, each like "10%", "500 steps", "100000 tokens" or "30 seconds"."""
        number, unit = re.findall(r"^\s*([\d.]+)\s*(%|st|se|t)", every)[0]
        value = {"%": 100 * self.used, "st": self.step, "se": self.seconds, "t": self.tokens}[unit]
        return math.floor(value / float(number) + 1e-9)

    def crossed(self, every: str, before: "State") -> bool:
        return self.passed(every) > before.passed(every)

    def next_evaluation(self, tokens: int) -> float:
        """Expected seconds of an evaluation of so many tokens: as the last; before the first, a third of training."""
        return self.evaluation or tokens * self.seconds / max(self.tokens, 1) / 3

    def share(self, config: TrainingConfig, steps: int | None, tokens: int) -> float:
        """The used share of the budget, of which evaluations that count reserve up to half for the last of them."""
        if steps:
            return min(1.0, self.step / steps)
        budget = config.seconds or math.inf  # there is one, without steps
        last = min(self.next_evaluation(tokens), budget / 2)
        evaluating = self.evaluating + last if config.evaluation_counts else 0.0
        return min(1.0, (self.seconds + evaluating) / budget)

    def may_evaluate(self, config: TrainingConfig, tokens: int) -> bool:
        """Whether evaluations, where they count in a budget of seconds, leave two thirds of the time to training."""
        counts = config.evaluation_counts and config.seconds
        return not counts or 2 * (self.evaluating + self.next_evaluation(tokens)) <= self.seconds


def read_state(path: Path, fields: Any) -> State:
    """Fields of a state as they were saved, here or by an earlier version. Raises: ValueError where they are none."""
    required = State.__dataclass_fields__.keys() - LATER
    try:
        if isinstance(fields, dict) and required <= fields.keys() and "step" in (fields["best"] or {"step"}):
            return TypeAdapter(State).validate_python(fields)
    except (ValidationError, TypeError):
        pass
    raise ValueError(f"{path}: expected the state of a run, got something else; start it anew")


class Clock:
    """Seconds of training so far; can be paused, so that evaluating and saving take nothing from the budget."""

    def __init__(self, seconds: float):
        self.origin, self.last_pause = perf_counter() - seconds, 0.0

    def seconds(self) -> float:
        return perf_counter() - self.origin

    @contextmanager
    def paused(self) -> Iterator[None]:
        began = perf_counter()
        yield
        self.last_pause = perf_counter() - began
        self.origin += self.last_pause
