"""The training loop, whole, on one page; accelerate gives it a device and, under torchrun, the other processes.

    for each step:
        seed the dropout from (seed, step)                 so nothing random needs to be kept
        add up gradients of loss sums over its batches     each process on its share of each batch
        sum over processes, divide by the number of targets, clip, AdamW
    now and then:
        a line of metrics; the validation, keeping the best weights; a checkpoint

The loss is thus the sum over targets divided by their number in the whole step, however the step is cut up.
"""

import math
import os
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast, gather_object
from torch import Tensor, nn

from sightline.batching import BatchPlan, share, sorted_batches
from sightline.resumable import processes
from sightline.tasks import Examples, Task
from sightline.training import checkpoint
from sightline.training.config import TrainingConfig
from sightline.training.model import Model, average
from sightline.training.record import Record
from sightline.training.state import Clock, State, read_state

CHECKPOINT = "checkpoint.safetensors"


class NotANumber(ValueError):
    """A loss that is no longer a number."""


class Gradients:
    """The gradients of a model as one flat tensor, each parameter's a view of it: one sum over processes, one norm.

    Three more numbers are summed with them: `loss` and `targets`, sums over the step, and `seconds`, the main clock.
    """

    def __init__(self, model: nn.Module, device: torch.device):
        parameters = list(model.parameters())
        self.all = torch.zeros(sum(p.numel() for p in parameters) + 3, device=device)
        self.flat, self.loss_and_targets = self.all[:-3], self.all[-3:-1]
        self.loss, self.targets, self.seconds = self.all[-3:].unbind()
        views = self.flat.split([p.numel() for p in parameters])
        for parameter, view in zip(parameters, views, strict=True):
            parameter.grad = view.view_as(parameter)


def train(
    model: Model,
    data: Examples,
    valid: Examples | None,
    config: TrainingConfig,
    folder: Path,
    resume: bool = False,
    progress: bool = True,
    fingerprints: Sequence[str] = (),
    run: str = "",
    note: str = "",
) -> tuple[list[dict], State]:
    """Trains a model in place and leaves in it the best weights by validation, or without one the last.

    `fingerprints` identify the data and `run`, if known, the run in its checkpoints; both must match to resume from a
    checkpoint in the folder. `note` is printed before the first step. With a budget of steps or epochs, on the CPU, and
    with as many processes as before, a stop and a resume change no bit of the weights. Returns metrics and last state.
    Raises: ValueError where a checkpoint cannot be read or written, or the loss is no longer a number.
    """
    process = processes()
    main, device = process.is_main_process, cast(torch.device, process.device)
    plan = BatchPlan(data.lengths, config.tokens, config.seed)
    steps = config.steps or (config.epochs and math.ceil(plan.start(config.epochs) / config.accumulate))
    model.to(device).train()
    optimizer = _optimizer(model, config)
    path, best = folder / CHECKPOINT, {}
    valid_tokens = 0 if valid is None else int(valid.lengths.sum())
    state = State(data=[len(data), int(plan.lengths.sum()), *fingerprints])
    if resume and os.path.lexists(path):
        best, state = _resumed(path, model, optimizer, state, run)
    broadcast(model.state_dict())  # and no process goes on before all have read the checkpoint
    gradients, clock = Gradients(model, device), Clock(state.seconds)
    since_line = torch.tensor(state.since_line, device=device)
    random = torch.random.fork_rng([device] if device.type == "cuda" else [])

    with Record(folder, state.step, main, progress, note) as record, random, _denormals_flushed():
        while state.used < 1:
            before = replace(state)
            rate = config.rate * _schedule((state.step + 1) / steps if steps else state.used, config.warmup)
            state.tokens += _add_gradients(model, data, plan, state.step, config, gradients, process, clock)
            since_line += gradients.loss_and_targets
            _update(optimizer, gradients, rate, config.clip)
            state.step += 1
            state.seconds = float(gradients.seconds) if process.num_processes > 1 else clock.seconds()
            state.used = state.share(config, steps, valid_tokens)

            due = state.crossed(config.evaluate_every, before) and state.may_evaluate(config, valid_tokens)
            evaluate = valid is not None and (due or state.used == 1)
            if evaluate or state.step % config.log_every == 0 or state.used == 1:
                line = _line(state, since_line.tolist(), rate, record.history)
                since_line.zero_()
                if evaluate and valid is not None:
                    with clock.paused():
                        line["valid"] = _validated(model, valid, config.tokens, process)
                    pause = cast(Tensor, broadcast(torch.tensor(clock.last_pause, device=device)))
                    state.evaluation = float(pause)  # that of the main process, so that all end together
                    state.evaluating += state.evaluation
                    state.used = state.share(config, steps, valid_tokens)
                    if not state.best or merit(model.task, line["valid"]) > merit(model.task, state.best):
                        state.best = {"step": state.step, **line["valid"]}
                        best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
                record.line(line)
            if main and (state.crossed(config.checkpoint_every, before) or state.used == 1):
                state.since_line = since_line.tolist()
                with clock.paused():
                    checkpoint.save(path, model, optimizer, best, asdict(state), run)
            record.show(state.used, state.seconds)
    model.load_state_dict(best or model.state_dict())
    model.eval().zero_grad(set_to_none=True)
    return record.history, state


@contextmanager
def _denormals_flushed():
    """Treats numbers below 1e-38 as 0: they are many times slower, and gradients of a long recurrence lie there."""
    flushed = (torch.full((1,), 1e-40) * 1).item() == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed)


def _add_gradients(model, data, plan, step, config, gradients, process, clock) -> int:
    """Adds up the gradients of one step over its batches and over all processes; returns the step's tokens."""
    seed = int(np.random.SeedSequence([config.seed, process.process_index, step]).generate_state(1)[0])
    (torch.cuda.manual_seed if process.device.type == "cuda" else torch.default_generator.manual_seed)(seed)
    gradients.all.zero_()
    tokens = 0
    for number in range(step * config.accumulate, (step + 1) * config.accumulate):
        _, batch = plan.at(number)
        tokens += int(plan.lengths[batch].sum())
        own = share(batch, process.process_index, process.num_processes)
        if own:  # a batch may have fewer sequences than there are processes
            part = data.take(own).to(process.device)
            with torch.autocast(process.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
                scores = model(part.inputs)
            loss, count = model.task.loss(scores.float(), part)
            loss.backward()
            gradients.loss.add_(loss.detach())
            gradients.targets.add_(count)
    if process.num_processes > 1:
        if process.is_main_process:
            gradients.seconds.fill_(clock.seconds())
        torch.distributed.all_reduce(gradients.all)
    return tokens


def _update(optimizer, gradients, rate, clip) -> None:
    """One step of AdamW on the mean gradient over targets, clipped; nothing here waits for the device."""
    gradients.flat /= gradients.targets.clamp(min=1)
    gradients.flat *= (clip / (gradients.flat.norm() + 1e-6)).clamp(max=1)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()


def _optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW that decays matrices, but neither embeddings nor biases and norms."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    decayed = [p for p in model.parameters() if p.dim() > 1 and id(p) not in tables]
    others = [p for p in model.parameters() if p.dim() <= 1 or id(p) in tables]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, config.rate, config.betas, weight_decay=config.weight_decay, fused=True)


def _schedule(used: float, warmup: float) -> float:
    """The share of the peak rate: rises in a line while warming up, then falls by half a cosine to a tenth."""
    if used < warmup:
        return used / warmup
    return 0.55 + 0.45 * math.cos(math.pi * (used - warmup) / (1 - warmup)) if warmup < 1 else 1.0


def _line(state: State, loss: list[float], rate: float, history: list[dict]) -> dict:
    """One line of metrics: the loss per target and the speed since the line before."""
    if not math.isfinite(loss[0]):
        raise NotANumber(
            f"training: expected a loss that is a number, got {loss[0]} by step {state.step}; lower rate, "
            f"now {rate:.1e} here"
        )
    last = history[-1] if history else {"tokens": 0, "seconds": 0.0}
    tokens, seconds = state.tokens - last["tokens"], state.seconds - last["seconds"]
    return {
        "step": state.step,
        "seconds": state.seconds,
        "tokens": state.tokens,
        "loss": loss[0] / max(loss[1], 1),
        "rate": rate,
        "tokens_per_second": tokens / max(seconds, 1e-9),
    }


def _validated(model, valid: Examples, tokens: int, process: PartialState) -> dict[str, float]:
    """The measures of the validation data, each process looking at its share of the batches."""
    batches = sorted_batches(valid.lengths, tokens)
    own = batches[process.process_index :: process.num_processes]
    measures = average(gather_object(model.measures(valid, own)))
    model.train()
    return measures


def merit(task: Task, measures: dict[str, float]) -> tuple[float, float]:
    """What selects the best weights: the accuracy where answers are right or wrong, then the loss."""
    accuracy = measures.get("accuracy", 0.0) if task.name in ("classify", "tag") else 0.0
    return accuracy, -measures.get("loss", math.inf)


def _resumed(path: Path, model, optimizer, fresh: State, run: str) -> tuple[dict, State]:
    """The best weights and the state of a checkpoint, which also fills model and optimizer.

    Raises: ValueError where it is not one of this run, or of other data.
    """
    best, fields = checkpoint.load(path, model, optimizer, run)
    state = read_state(path, fields)
    if state.data[:2] != fresh.data[:2]:
        raise ValueError(
            f"{path}: expected the training data of the checkpoint, {state.data[0]} sequences of {state.data[1]} "
            f"tokens, got {fresh.data[0]} of {fresh.data[1]}; restore the data, or start anew in another folder"
        )
    if state.data != fresh.data[: len(state.data)]:  # an older version kept no fingerprints
        raise ValueError(
            f"{path}: expected the data that the run began with, got others, though as many; restore the data, or "
            "start anew in another folder"
        )
    return best, replace(state, data=fresh.data)
