"""The loop must compute the loss it says, spend the budget it was given, and give back the best weights."""

import json
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sightline.batching import BatchPlan
from sightline.sequences import Sequences
from sightline.tasks import Classify, Examples
from sightline.training import loop
from sightline.training.config import TrainingConfig
from sightline.training.state import Clock, State


class Counts(nn.Module):
    """Answers by which tokens occur: enough to be trained."""

    def __init__(self, task, dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.task, self.table, self.norm = task, nn.Embedding(20, 8), nn.LayerNorm(8)
        self.dropout, self.out = nn.Dropout(dropout), nn.Linear(8, task.outputs)
        self.looked_at = 0

    def forward(self, x):
        rows = self.table(x.values)
        sums = rows.new_zeros(len(x), rows.shape[1]).index_add(0, x.sequence_ids, rows)
        return self.out(self.dropout(self.norm(sums)))

    def measures(self, examples, batches):
        self.eval()
        self.looked_at += 1
        with torch.no_grad():
            parts = [examples.take(batch) for batch in batches]
            return [self.task.measures(self(part.inputs), part) for part in parts]


TASK = Classify("text", "label", ("a", "b"))


def data(count=200, seed=0):
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, 9, (count,), generator=draw)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    inputs = Sequences(torch.randint(0, 20, (int(offsets[-1]),), generator=draw), offsets)
    evens = torch.zeros(count).index_add(0, inputs.sequence_ids, 1.0 - 2.0 * (inputs.values % 2))
    return Examples(inputs, (evens > 0).long())


def trained(folder, model=None, valid=True, resume=False, **settings):
    model = Counts(TASK) if model is None else model
    config = TrainingConfig(**{"tokens": 64, "log_every": 1, **settings})
    folder.mkdir(exist_ok=True)
    history, _ = loop.train(model, data(), data(seed=1) if valid else None, config, folder, resume, progress=False)
    return model, history


def test_learns_and_writes_a_line_for_each_step(tmp_path):
    model, history = trained(tmp_path, steps=60, rate=0.1)
    assert [line["step"] for line in history] == list(range(1, 61))
    assert history[-1]["loss"] < 0.4 < history[0]["loss"]
    assert [line["step"] for line in history if "valid" in line] == list(range(6, 61, 6))
    written = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert written == history
    assert not model.training


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_gradient_is_that_of_the_mean_over_all_targets_of_the_step(accumulate):
    model, examples = Counts(TASK), data()
    config = TrainingConfig(tokens=64, accumulate=accumulate)
    plan = BatchPlan(examples.lengths, 64)
    gradients = loop.Gradients(model, torch.device("cpu"))
    process = SimpleNamespace(process_index=0, num_processes=1, device=torch.device("cpu"))
    tokens = loop._add_gradients(model, examples, plan, 5, config, gradients, process, Clock(0.0))

    everything = [i for number in range(5 * accumulate, 6 * accumulate) for i in plan.at(number)[1]]
    part = examples.take(everything)
    loss, count = TASK.loss(model(part.inputs), part)
    expected = torch.autograd.grad(loss, list(model.parameters()))
    assert tokens == len(part.inputs.values)
    torch.testing.assert_close(gradients.flat, torch.cat([g.flatten() for g in expected]))
    torch.testing.assert_close(gradients.loss_and_targets, torch.tensor([loss.item(), float(count)]))


def test_one_step_of_adamw_on_the_clipped_mean():
    model = Counts(TASK)
    config = TrainingConfig(clip=0.5, weight_decay=0.1)
    optimizer = loop._optimizer(model, config)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays[id(model.out.weight)] == 0.1
    assert decays[id(model.table.weight)] == decays[id(model.out.bias)] == decays[id(model.norm.weight)] == 0
    gradients = loop.Gradients(model, torch.device("cpu"))
    gradients.flat.normal_()
    gradients.targets.fill_(4)
    mean = gradients.flat / 4
    loop._update(optimizer, gradients, 0.01, clip=0.5)
    torch.testing.assert_close(gradients.flat, mean * 0.5 / mean.norm())
    assert model.out.weight.grad.data_ptr() != 0 and gradients.flat.norm() <= 0.5 + 1e-5


def test_accumulating_and_epochs(tmp_path):
    batches = BatchPlan(data().lengths, 64).start(2)
    _, history = trained(tmp_path, epochs=2, accumulate=2)
    assert len(history) == -(-batches // 2)
    assert history[-1]["tokens"] >= 2 * len(data().inputs.values)


def test_evaluating_and_saving_do_not_change_what_is_learned(tmp_path):
    ends = []
    for number, settings in enumerate([{}, {"evaluate_every": "1 steps", "checkpoint_every": "2 steps"}]):
        model, history = trained(tmp_path / str(number), Counts(TASK, 0.3), steps=12, **settings)
        ends.append(history[-1]["loss"])
    assert ends[0] == ends[1]


def test_the_rate_rises_and_falls():
    rates = [loop._schedule(used / 100, 0.1) for used in range(101)]
    assert rates[0] == 0 and rates[10] == 1 and rates[5] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.1) and rates[55] == pytest.approx(0.55)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert loop._schedule(1.0, 1.0) == 1.0 and loop._schedule(0.0, 0.0) == 1.0


def test_marks():
    state = State(step=7, tokens=2500, seconds=31.0, used=0.35)
    assert [state.passed(every) for every in ("2 steps", "1000 tokens", "10 seconds", "10%", " 0.5 steps ")] == [
        3,
        2,
        3,
        3,
        14,
    ]
    assert state.crossed("5%", State(used=0.34)) and not state.crossed("5%", State(used=0.351))


def test_seconds_are_spent_on_training_alone(tmp_path):
    class Slow(Counts):
        def measures(self, *arguments):
            time.sleep(0.2)
            return super().measures(*arguments)

    began = time.perf_counter()
    model, history = trained(tmp_path, Slow(TASK), seconds=0.3, evaluate_every="20%")
    passed = time.perf_counter() - began
    assert 0.3 <= history[-1]["seconds"] < 1.0  # the budget and its last step
    assert passed > 0.3 + 0.2 * model.looked_at and model.looked_at >= 1  # as often as a busy machine lets it
    rates = [line["rate"] for line in history]
    assert max(rates) > 5e-4 > rates[-1]


def test_tokens_are_marks_too(tmp_path):
    _, history = trained(tmp_path, steps=20, evaluate_every="300 tokens")
    at = [line["tokens"] // 300 for line in history if "valid" in line]
    assert len(at) >= 3 and at[:-1] == sorted(set(at[:-1]))


def test_the_best_weights_come_back(tmp_path):
    model, history = trained(tmp_path, steps=30, rate=0.5, warmup=0.0, evaluate_every="1 steps")
    measured = [loop.merit(TASK, line["valid"]) for line in history]
    examples = data(seed=1)
    (now,) = model.measures(examples, [list(range(len(examples)))])
    assert now["accuracy"][0] / now["accuracy"][1] == max(measured)[0]
    assert max(measured) > measured[-1]  # or the test would say nothing


def test_without_validation_the_last_weights_stay(tmp_path):
    model, history = trained(tmp_path, valid=False, steps=3)
    assert not any("valid" in line for line in history)


def test_resuming_a_run_that_has_ended_does_nothing(tmp_path):
    model, history = trained(tmp_path, steps=5)
    again, same = trained(tmp_path, steps=5, resume=True)
    assert same == history
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_lines_past_the_checkpoint_are_dropped(tmp_path):
    _, history = trained(tmp_path, steps=5)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 6, "loss": 1}\n{"step": 7, "lo')
    trained(tmp_path, steps=5, resume=True)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == len(history)


def test_other_data_is_refused(tmp_path):
    model, _ = trained(tmp_path, steps=2)
    with pytest.raises(ValueError) as error:
        loop.train(model, data(100), None, TrainingConfig(steps=2), tmp_path, resume=True, progress=False)
    assert "expected the training data of the checkpoint, 200 sequences of" in str(error.value)


def test_fingerprints_tell_data_apart_that_are_as_many(tmp_path):
    def run(*fingerprints):
        options = {"resume": True, "progress": False, "fingerprints": fingerprints}
        return loop.train(Counts(TASK), data(), None, TrainingConfig(steps=2), tmp_path, **options)

    run()  # as an older version left it
    run("a")
    (tmp_path / "checkpoint.safetensors").unlink()
    run("a", "b")
    run("a", "b")
    with pytest.raises(ValueError, match="expected the data that the run began with, got others, though as many"):
        run("a", "c")


@pytest.mark.parametrize("bad", [b"", b"[1]\n", b'{"loss": 1}\n', b"\xff\xfe\n", b"[" * 100_000, None])
def test_a_damaged_line_is_the_end_of_the_lines(tmp_path, bad):
    trained(tmp_path, steps=5)
    path = tmp_path / "metrics.jsonl"
    first = path.read_bytes().splitlines(keepends=True)[0]
    path.unlink() if bad is None else path.write_bytes(first + bad)
    _, history = trained(tmp_path, steps=5, resume=True)
    assert [line["step"] for line in history] == ([] if bad is None else [1])


def test_a_loss_that_is_no_number_stops(tmp_path):
    model = Counts(TASK)
    with torch.no_grad():
        model.out.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"training: expected a loss that is a number, got nan by step 1; lower rate"):
        trained(tmp_path, model, steps=5)


def test_bfloat16(tmp_path):
    _, history = trained(tmp_path, steps=40, rate=0.1, precision="bfloat16")
    _, exact = trained(tmp_path, steps=40, rate=0.1)
    assert history[-1]["loss"] < 0.5 and history[-1]["loss"] != exact[-1]["loss"]


def test_random_numbers_outside_are_left_alone(tmp_path):
    model = Counts(TASK, 0.5)
    before = torch.random.get_rng_state()
    trained(tmp_path, model, steps=2)
    assert torch.equal(before, torch.random.get_rng_state())


def test_tiny_numbers_are_zero_while_training_and_as_before_after_it(tmp_path):
    def tiny():
        return (torch.full((1,), 1e-40) * 1).item()

    class Looks(Counts):
        def forward(self, x):
            seen.add(tiny())
            return super().forward(x)

    for before in (False, True):
        seen = set()
        torch.set_flush_denormal(before)
        try:
            trained(tmp_path / str(before), Looks(TASK), steps=2)
            assert seen == {0.0} and (tiny() == 0) == before
        finally:
            torch.set_flush_denormal(False)


def test_the_bar_is_silent_where_not_asked_for(tmp_path, capfd):
    trained(tmp_path, steps=2)
    assert capfd.readouterr() == ("", "")
    loop.train(Counts(TASK), data(), None, TrainingConfig(steps=2, log_every=1), tmp_path, progress=True)
    out, err = capfd.readouterr()
    assert out == "" and "tokens/s" in err and "0:00 left" in err


def test_tensorboard_where_it_is_installed(tmp_path, monkeypatch):
    class Board:
        def __init__(self, folder, purge_step):
            self.scalars, self.closed = [], False
            boards.append((folder, purge_step, self))

        def add_scalar(self, name, value, step):
            self.scalars.append((name, value, step))

        def close(self):
            self.closed = True

    boards = []
    monkeypatch.setattr("sightline.training.record.find_spec", lambda name: name == "tensorboard")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Board))
    _, history = trained(tmp_path, steps=2, evaluate_every="2 steps")
    ((folder, purge_step, board),) = boards
    assert (folder, purge_step, board.closed) == (tmp_path / "tensorboard", 1, True)
    assert ("loss", history[0]["loss"], 1) in board.scalars
    assert ("valid/accuracy", history[1]["valid"]["accuracy"], 2) in board.scalars
