"""Files of a run that are damaged, missing or of another run are named, and no size in a file is trusted."""

import copy
import json
import os
import random
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from sightline.training import checkpoint, digests, predict
from sightline.training.model import Model
from sightline.training.runs import fit
from sightline.training.state import LATER
from tests.training.small_runs import KEPT, READ, SMALL, TEXTS, refusal, resumed

# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*READ, "digests.json"])
def test_every_flipped_bit_is_named(run, name):
    whole, draw = (run / name).read_bytes(), random.Random(name)
    for bit in draw.sample(range(8 * len(whole)), 60):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        (run / name).write_bytes(damaged)
        assert refusal(lambda: Model.load(run)).startswith(f"{run / name}: expected the "), bit
    (run / name).write_bytes(whole)
    Model.load(run)


@pytest.mark.parametrize("name", KEPT)
def test_what_is_cut_or_missing_or_of_another_run_is_named(run, folders, name):
    def opens():
        return Model.load(run) if name in READ else resumed(run, folders)

    whole, other = (run / name).read_bytes(), (folders / "second" / name).read_bytes()
    for content in (whole[:-1], b"", whole + b" ", bytes(len(whole)), other):
        if content == whole:  # the tokenizer and the task of both are the same
            continue
        (run / name).write_bytes(content)
        assert refusal(opens).startswith(f"{run / name}: expected the file that the run wrote, got ")
    (run / name).unlink()
    if name != "metrics.jsonl":  # on which no result depends
        assert refusal(opens).startswith((f"{run / name}: expected a file", f"{run}: expected "))
        (run / name).write_bytes(whole)
    opens()


@pytest.mark.parametrize("known", [True, False], ids=["digests", "an earlier version"])
def test_weights_of_another_type_or_without_numbers(run, known):
    path, tensors = run / "model.safetensors", load_file(run / "model.safetensors")
    if not known:
        (run / "digests.json").unlink()
    for change in (
        lambda t: t.to(torch.int8),
        lambda t: t.double(),
        lambda t: torch.full_like(t, torch.nan),
        lambda t: t / 0,
        lambda t: t[..., :-1].contiguous(),
    ):
        save_file({name: change(tensor) for name, tensor in tensors.items()}, path)
        assert refusal(lambda: Model.load(run)).startswith(f"{path}: expected ")


def test_a_change_of_the_users_own(run):
    config = json.loads((run / "config.json").read_text())
    config["training"]["tokens"] = 77
    (run / "config.json").write_text(json.dumps(config))
    assert refusal(lambda: Model.load(run)).endswith("or if the change is yours remove digests.json")
    (run / "digests.json").unlink()
    assert Model.load(run).config.training.tokens == 77


def as_an_earlier_version_left_it(run):
    (run / "digests.json").unlink()
    for name in ("model.safetensors", "checkpoint.safetensors"):
        tensors, metadata = checkpoint.read_tensors(run / name)
        metadata = {k: v for k, v in metadata.items() if k in ("state", "trained_on")}
        if "state" in metadata:
            state = {k: v for k, v in json.loads(metadata["state"]).items() if k not in LATER}
            metadata["state"] = json.dumps(state)
        save_file(tensors, run / name, metadata)


def test_a_run_of_an_earlier_version_is_read_and_goes_on(run, folders):
    before = list(predict(run, TEXTS))
    as_an_earlier_version_left_it(run)
    assert list(predict(run, TEXTS)) == before
    for _ in range(3):  # the first adds the digests
        resumed(run, folders)
        assert list(predict(run, TEXTS)) == before
    assert digests.listed(run).keys() == set(KEPT)


@pytest.mark.parametrize("stop", range(1, 9))
def test_a_kill_between_two_writes_leaves_a_run_to_resume(folders, tmp_path, monkeypatch, stop):
    """Of the last files of a run, which replace those of another, as after a change of version."""
    run = shutil.copytree(folders / "second", tmp_path / "run")
    model = Model.load(folders / "first")
    replace, left = os.replace, [stop]

    def deadly(*arguments):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        replace(*arguments)

    monkeypatch.setattr(os, "replace", deadly)
    try:
        digests.save(run, model.files() | {"results.json": b"{}"})
        assert stop == 8
    except KeyboardInterrupt:
        monkeypatch.undo()
        try:
            Model.load(run)  # before the first write
        except ValueError as error:
            assert str(error) == f"{run}: expected a trained model, got a run that did not end; resume it"
    assert not [path for path in run.iterdir() if path.suffix == ".partial"]


def test_a_checkpoint_knows_its_own_damage_and_its_run(folders, tmp_path):
    """Of a run that has not ended, whose checkpoint is in no list."""
    begun = {"steps": 8, "checkpoint_every": "2 steps", **{k: v for k, v in SMALL.items() if k != "steps"}}
    save, seen = checkpoint.save, []

    def stops(path, *arguments):
        save(path, *arguments)
        seen.append(path)
        raise KeyboardInterrupt

    for seed in (0, 1):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(checkpoint, "save", stops)
            fit(folders / "reviews.csv", out=tmp_path / str(seed), seed=seed, **begun)
    run, path = tmp_path / "0", tmp_path / "0" / "checkpoint.safetensors"
    assert path.name not in digests.listed(run)
    whole, draw = path.read_bytes(), random.Random(0)
    for bit in [*range(0, 64, 9), *draw.sample(range(64, 8 * len(whole)), 60)]:
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        assert refusal(lambda: resumed(run, folders)).startswith(f"{path}: expected "), bit
    path.write_bytes(seen[1].read_bytes())
    assert "expected a checkpoint of this run, got one of another" in refusal(lambda: resumed(run, folders))
    tensors, metadata = checkpoint.read_tensors(path)
    save_file(tensors, path, {"state": metadata["state"]})
    assert "got a damaged one (its digest differs)" in refusal(lambda: resumed(run, folders))
    path.write_bytes(whole)
    assert resumed(run, folders).results["steps"] == 8


# --- lies -------------------------------------------------------------------------------------------------------------

HUGE = [2 * 10**9, 10**12, 10**30, 10**4000, -1, 0, 1e30, None, "x", [], {}, [[1] * 3], "a" * 100_000]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["self-attention", "fully-connected", "convolution"])
def test_a_config_that_lies_about_a_size(folders, tmp_path, kind):
    run = tmp_path / "run"
    fit(folders / "reviews.csv", out=run, **SMALL | {"encoder": kind})
    (run / "digests.json").unlink()
    whole = json.loads((run / "config.json").read_text())
    sizes = ("width", "layers", "hidden", "features", "heads", "key_heads", "kernel", "largest", "rank", "window")
    for section, name in [("encoder", name) for name in sizes] + [("training", "tokens")]:
        for value in HUGE:
            config = copy.deepcopy(whole)
            config[section][name] = value
            (run / "config.json").write_text(json.dumps(config))
            try:
                list(Model.load(run).predict(TEXTS))
            except ValueError as error:
                assert len(str(error)) < 700 and str(run) in str(error)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "change",
    [
        lambda task: task.update(labels=None),
        lambda task: task.update(labels=["1", "1"]),
        lambda task: task.update(labels=["1", None]),
        lambda task: task.update(labels=["1", 5]),
        lambda task: task.update(labels=["1", ["5"]]),
        lambda task: task.update(labels=[]),
        lambda task: task.update(labels="15"),
        lambda task: task.update(labels={"1": 0, "5": 1}),
        lambda task: task.update(labels=["1", "5", "9"]),
        lambda task: task.update(text=None),
        lambda task: task.update(label=7),
        lambda task: task.update(task="x" * 100_000),
        lambda task: task.update(task=["classify"]),
        lambda task: task.update(task="language", vocabulary=10**30),
        lambda task: task.clear(),
    ],
)
def test_a_task_that_cannot_be(run, change):
    (run / "digests.json").unlink()
    task = json.loads((run / "task.json").read_text())
    change(task)
    (run / "task.json").write_text(json.dumps(task))
    assert str(run) in refusal(lambda: Model.load(run))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("value", [2_000_000_000, 2**31, 2**32 - 1, 10**30, -1, None, "x"])
def test_a_tokenizer_that_lies_about_an_id(run, value):
    (run / "digests.json").unlink()
    saved = json.loads((run / "tokenizer.json").read_text())
    saved["model"]["vocab"]["good"] = value
    (run / "tokenizer.json").write_text(json.dumps(saved))
    assert str(run) in refusal(lambda: Model.load(run))


def test_a_tokenizer_without_an_unknown(run):
    (run / "digests.json").unlink()
    saved = json.loads((run / "tokenizer.json").read_text())
    saved["model"]["unk_token"] = "x"
    (run / "tokenizer.json").write_text(json.dumps(saved))
    assert "tokenizer.json: expected a tokenizer.json" in refusal(lambda: Model.load(run))


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}},
        {"a": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 0]}},
        {"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}},
        {"__metadata__": {"sha256": "0" * 64}},
        {"__metadata__": {"sha256": 5}},
        [],
    ],
)
def test_weights_whose_header_lies(run, header):
    (run / "digests.json").unlink()
    text = json.dumps(header).encode()
    for length in (len(text), 2**40, 2**63):
        (run / "model.safetensors").write_bytes(length.to_bytes(8, "little") + text)
        message = refusal(lambda: Model.load(run))
        assert message.startswith(f"{run}/") and "model.safetensors" in message


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", KEPT)
def test_pipes_loops_and_folders_in_the_place_of_a_file(run, folders, name):
    for _ in range(2):  # with digests, and without
        for plant in (os.mkfifo, lambda path: path.symlink_to(path.name), os.mkdir):
            aside = (run / name).rename(run.parent / "moved")
            plant(run / name)
            if name in READ or name == "checkpoint.safetensors":
                with pytest.raises(ValueError, match="expected "):
                    Model.load(run)
                    resumed(run, folders)
            (run / name).rmdir() if plant is os.mkdir else (run / name).unlink()
            aside.rename(run / name)
        (run / "digests.json").unlink(missing_ok=True)
    Model.load(run)


@pytest.mark.parametrize(
    "state",
    [
        "[]",
        "5",
        "{}",
        "[" * 100_000,
        '{"step": 1e999}',
        None,
        "step=-1",
        "step=1.5",
        "since_line=[1]",
        "best=5",
        "data=[]",
        "tokens=1e30",
    ],
)
def test_a_state_that_is_none(run, folders, state):
    as_an_earlier_version_left_it(run)
    tensors, metadata = checkpoint.read_tensors(run / "checkpoint.safetensors")
    if state is None:
        metadata.pop("state")
    elif "=" in state:
        name, _, value = state.partition("=")
        metadata["state"] = json.dumps(json.loads(metadata["state"]) | {name: json.loads(value)})
    else:
        metadata["state"] = state
    save_file(tensors, run / "checkpoint.safetensors", metadata)
    assert refusal(lambda: resumed(run, folders)).startswith(f"{run / 'checkpoint.safetensors'}: expected ")
