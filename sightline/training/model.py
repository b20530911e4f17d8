"""A trained model: encoder, read-out, task and tokenizer together, in memory or in a folder.

config.json         how encoder and training were configured      task.json       labels, columns, units
model.safetensors   the weights                                    tokenizer.json  absent for vectors
digests.json        the sha256 of each of these (`digests.py`)
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sightline.batching import sorted_batches
from sightline.encoders import Readout, build
from sightline.files import make_folder, read_json
from sightline.sequences import Sequences
from sightline.tabular import describe, is_table, items_of, table_rows
from sightline.tasks import Examples, Language, Record, Task, Tokenizer, questions, task_from_json
from sightline.training import checkpoint, digests
from sightline.training.config import RunConfig

CONFIG, TASK, TOKENIZER, WEIGHTS = "config.json", "task.json", "tokenizer.json", "model.safetensors"
SIZES = ("layers", "width", "hidden", "features", "heads", "key_heads", "kernel", "largest", "rank")


class Model(nn.Module):
    """An encoder with a read-out for a task: ids [T] or vectors [T, F] to scores [T, outputs] or [S, outputs].

    Attributes: `encoder`, `readout`, `task`, `tokenizer` (None for vectors), `config`; after `fit` also `history`, the
    lines of metrics.jsonl, and `results`, the content of results.json; `trained_on`, the fingerprint of its training
    data, if known.
    Raises: ValueError where the configuration contradicts the task.
    """

    def __init__(self, config: RunConfig, task: Task, tokenizer: Tokenizer | None):
        super().__init__()
        if task.causal and config.encoder.causal is False:
            raise ValueError(f"encoder: expected causal for {task.name}, got causal false; leave it out")
        if task.pool is None and config.encoder.pool is not None:
            raise ValueError(
                f"encoder: expected no pool for {task.name}, which answers for each token, got {config.encoder.pool}; "
                "leave it out"
            )
        self.config, self.task, self.tokenizer = config, task, tokenizer
        self.encoder = build(vocabulary=None if tokenizer is None else tokenizer.size, **config.encoder.options())
        self.readout = Readout(config.encoder.width, task.outputs, config.encoder.pool or task.pool)
        self.history: list[dict] = []
        self.results: dict[str, Any] = {}
        self.trained_on: str | None = None

    def forward(self, inputs: Sequences) -> Tensor:
        return self.readout(self.encoder(inputs))

    def scores(self, examples: Examples) -> Tensor:
        """Scores, on the device of the model: [T, outputs] for a task per token, else [S, outputs]."""
        return self(examples.inputs.to(self.device))

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    # --- in a folder --------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Writes the files of the model, and their digests. Raises: ValueError where they cannot be written."""
        make_folder(Path(folder))
        digests.save(Path(folder), self.files())

    def files(self) -> dict[str, bytes]:
        about = {"trained_on": self.trained_on} if self.trained_on else None
        return self.description() | {WEIGHTS: checkpoint.as_bytes(self.state_dict(), about)}

    def description(self) -> dict[str, bytes]:
        """The files of a model but for its weights."""
        files = {CONFIG: self.config.to_json(), TASK: json.dumps(self.task.to_json(), indent=2) + "\n"}
        if self.tokenizer is not None:
            files[TOKENIZER] = self.tokenizer.engine.to_str()
        return {name: text.encode() for name, text in files.items()}

    @classmethod
    def load(cls, folder: str | Path) -> Model:
        """The model of a folder, on the CPU, ready to answer.

        Raises: ValueError, naming the file, where one is missing, damaged, or contradicts the others.
        """
        folder = Path(folder)
        if not (folder / CONFIG).is_file():
            raise ValueError(f"{folder}: expected the folder of a model, got one without {CONFIG}; fit a model first")
        known = digests.listed(folder)
        if not (folder / WEIGHTS).is_file() or known is not None and WEIGHTS not in known:
            raise ValueError(f"{folder}: expected a trained model, got a run that did not end; resume it")
        digests.check(folder, (CONFIG, TASK, TOKENIZER, WEIGHTS))
        config = RunConfig.read(folder / CONFIG)
        task = _task(folder / TASK)
        tokenizer = Tokenizer.load(folder) if config.encoder.features is None else None
        _check_sizes(folder, config, task, tokenizer)
        model = cls(config, task, tokenizer)
        tensors, about = checkpoint.read_tensors(folder / WEIGHTS)
        checkpoint.fill(folder / WEIGHTS, model.state_dict(), tensors)
        for name, tensor in tensors.items():
            if not tensor.isfinite().all():
                raise ValueError(
                    f"{folder / WEIGHTS}: expected finite numbers in {name}, got nan or inf; use another copy"
                )
        model.trained_on = about.get("trained_on")
        return model.eval()

    # --- evaluation, answers and text ---------------------------------------------------------------------------------

    @torch.no_grad()
    def measures(self, examples: Examples, batches: list[list[int]]) -> list[dict[str, tuple[float, float]]]:
        """The task's measures of each batch of examples, as sums and counts, for `average`."""
        self.eval()
        parts = (examples.take(batch).to(self.device) for batch in batches)
        return [self.task.measures(self(part.inputs), part) for part in parts]

    def evaluate(self, examples: Examples) -> dict[str, float]:
        """The task's measures, each an average, without those that no example counts for.

        Raises: ValueError for sequences that are too long for the encoder.
        """
        self.check_lengths(examples.lengths, "evaluate")
        return average(self.measures(examples, sorted_batches(examples.lengths, self.config.training.tokens)))

    def check_lengths(self, lengths: Tensor, where: str, places: list[str] | None = None) -> None:
        """Raises a ValueError, naming the place, for a sequence longer than a fully connected encoder's largest."""
        largest = self.config.encoder.largest
        if largest is not None and len(lengths) and int(lengths.max()) > largest:
            first = int((lengths > largest).nonzero()[0])
            raise ValueError(
                f"{places[first] if places else f'{where}, sequence {first}'}: expected at most {largest} tokens, the "
                f"encoder's largest, got {int(lengths[first])}; shorten it, or fit with a larger largest"
            )

    @torch.no_grad()
    def predict(self, records: Any, probabilities: bool = False) -> Iterator[dict]:
        """An answer for each record, in order, reading only some records ahead; with `probabilities` of every class.

        `records` are an iterable, a table such as a DataFrame, or one column. A record is a `Record`, a dict of
        columns, or only the value of the text column: a string, a list of words, an array of vectors.
        Raises: ValueError for a record that cannot be read; TypeError for a set, bytes, a path.
        """
        if isinstance(records, (str, bytes, dict, Record)):  # of which each letter or key would be a record
            raise ValueError(
                f"predict: expected records one after the other, got one {type(records).__name__}; put it in a list"
            )
        records = table_rows(records, "predict") if is_table(records) else items_of(records, "predict", "records")
        self.eval()
        places: list[str] = []

        def noted():
            for number, record in enumerate(records, 1):
                if not isinstance(record, Record):
                    fields = record if isinstance(record, dict) else {self.task.text: record}
                    record = Record(fields, "predict", number)
                places.append(record.where)
                yield record

        for examples in questions(noted(), self.task, self.tokenizer):
            self.check_lengths(examples.lengths, "predict", places)
            places.clear()
            answers: dict[int, dict] = {}
            for batch in sorted_batches(examples.lengths, self.config.training.tokens):
                part = examples.take(batch).to(self.device)
                scores = self(part.inputs)
                answers |= zip(batch, self.task.answers(scores, part), strict=True)
                if probabilities:
                    for index, each in zip(batch, self.task.probabilities(scores, part), strict=True):
                        answers[index] = answers[index] | {"probabilities": each}
            yield from (answers[index] for index in range(len(examples)))

    def generate(
        self, prompt: str = "", length: int = 200, temperature: float = 1.0, top_k: int | None = None, seed: int = 0
    ) -> Iterator[str]:
        """Continues a prompt, piece by piece, until the text ends or has `length` new tokens.

        At temperature 0 the likeliest token is taken; `top_k` draws from that many likeliest ones.
        Raises: ValueError where the model did not learn language, or an option is out of range.
        """
        task, tokenizer = self.task, self.tokenizer
        if not isinstance(task, Language) or tokenizer is None:
            raise ValueError(f"generate: expected a model of language, got one of {task.name}; fit with task language")
        if length < 0 or not 0 <= temperature < math.inf or (top_k is not None and top_k < 1):
            raise ValueError(
                "generate: expected length and a finite temperature of 0 or more and top_k of 1 or more, got "
                f"{length}, {temperature} and {top_k}; correct them"
            )
        if not 0 <= seed < 2**64:
            raise ValueError(f"generate: expected a seed from 0 to 2**64 - 1, got {seed}; take another")
        if not isinstance(prompt, str):
            raise TypeError(f"generate: expected a text, got {describe(prompt)}; give one text")
        if any("\ud800" <= letter <= "\udfff" for letter in prompt):
            raise ValueError("generate: expected a text, got half of a surrogate pair in it; decode it anew as UTF-8")
        ids = task.prompt(tokenizer.encode([prompt]).ids.values).tolist()
        return self._pieces(tokenizer, ids, length, temperature, top_k, torch.Generator().manual_seed(seed))

    def _pieces(
        self, tokenizer: Tokenizer, ids: list[int], length: int, temperature: float, top_k: int | None, random
    ) -> Iterator[str]:
        """Decodes from a little before each new token, and holds text back while a character lacks bytes."""
        self.eval()
        decode, end = tokenizer.decode, tokenizer.end
        never = {tokenizer.unknown} - {end}  # is no text
        if isinstance(self.task, Language) and self.task.stream:  # of which no end was learned
            never |= {end}
        shown = len(ids)
        begin = max(shown - 4, int(ids[0] == end), 0)  # the token that opens a text is no text
        printed = len(decode(ids[begin:shown]))
        scores, state = self._read(ids, None)
        for _ in range(length):
            scores[list(never)] = -torch.inf
            token = _drawn(scores, temperature, top_k, random)
            if token == end:
                break
            ids.append(token)
            text = decode(ids[begin:])
            if not text.endswith("\ufffd"):
                yield text[printed:]
                begin, shown = shown, len(ids)
                printed = len(decode(ids[begin:shown]))
            scores, state = self._read([token], state)
        if shown < len(ids):
            yield decode(ids[begin:])[printed:]

    @torch.no_grad()
    def _read(self, ids: list[int], state) -> tuple[Tensor, Any]:
        """The scores [outputs] of the next token, on the CPU, and the encoder's state after these ids."""
        state = self.encoder.start(1) if state is None else state
        for token in ids:
            encoding, state = self.encoder.step(torch.tensor([token], device=self.device), state)
        return self.readout(Sequences(encoding, [0, 1]))[0].float().cpu(), state


def _task(path: Path) -> Task:
    """The task of a folder. Raises: ValueError, naming the file, where it is none."""
    saved = read_json(path)
    try:
        task = task_from_json(saved)
        labels = getattr(task, "labels", None)
        if not isinstance(task.text, str) or not isinstance(task.label, str | None):
            raise ValueError("a column that is no text")
        texts = isinstance(labels, tuple) and all(isinstance(label, str) for label in labels)
        if labels is not None and (not texts or len(set(labels)) < max(len(labels), 2)):
            raise ValueError("labels that are not two or more different texts")
        if isinstance(task.outputs, bool) or not isinstance(task.outputs, int) or task.outputs < 1:
            raise ValueError(f"{task.outputs} outputs")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: expected the task of the model, got: {str(error)[:200]}; use another copy") from None
    return task


def _check_sizes(folder: Path, config: RunConfig, task: Task, tokenizer: Tokenizer | None) -> None:
    """Compares the sizes in the other files with the weights, before memory is allocated for them.

    Raises: ValueError, naming the files, where they differ.
    """
    weights = folder / WEIGHTS
    shapes = checkpoint.read_shapes(weights)
    most = sum(map(math.prod, shapes.values()))
    for name in SIZES:
        size, bound = getattr(config.encoder, name), len(shapes) if name == "layers" else most
        if size is not None and size > bound:
            raise ValueError(
                f"{folder / CONFIG}: expected {name} of the weights in {WEIGHTS}, at most {bound:,}, got {size:,}; use "
                "another copy"
            )
    try:
        with torch.device("meta"):
            expected = Model(config, task, tokenizer).state_dict()
    except (RuntimeError, OverflowError, TypeError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise ValueError(
            f"{folder}: expected sizes of the weights in {WEIGHTS}, got others ({reason}); use another copy"
        ) from None
    checkpoint.check_shapes(weights, {name: tuple(tensor.shape) for name, tensor in expected.items()}, shapes)


def _drawn(scores: Tensor, temperature: float, top_k: int | None, random: torch.Generator) -> int:
    """A token drawn by its score."""
    limits = torch.finfo(scores.dtype)
    if temperature < limits.tiny:
        return int(scores.argmax())
    if top_k is not None and top_k < len(scores):
        scores[scores < scores.topk(top_k).values[-1]] = -torch.inf
    scaled = (scores - scores.max()) / min(temperature, limits.max)
    return int(torch.multinomial(scaled.softmax(-1), 1, generator=random))


def average(parts: list[dict[str, tuple[float, float]]]) -> dict[str, float]:
    """Averages of measures, of which each part has a total and a count; without those that no part counted.

    >>> average([{"accuracy": (3, 4)}, {"accuracy": (1, 4), "accuracy@1-4": (0, 0)}])
    {'accuracy': 0.5}
    """
    names = dict.fromkeys(name for part in parts for name in part)
    sums = {name: [sum(x) for x in zip(*(part[name] for part in parts if name in part), strict=True)] for name in names}
    return {name: total / count for name, (total, count) in sums.items() if count}
