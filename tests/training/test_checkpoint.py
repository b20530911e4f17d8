"""What is on disk must be whole or refused with its name, and a disk that is full must cost nothing that was there."""

import resource
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from sightline import files
from sightline.training import checkpoint
from tests.training.small_runs import refusal

STATE = {"step": 3, "loss": 0.1 + 0.2}


def run(seed=0, width=4):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, width), nn.LayerNorm(width))
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for _ in range(3):
        model(torch.randn(2, 3)).square().sum().backward()
        optimizer.step()
    return model, optimizer


@contextmanager
def full_disk(room: int):
    """No file may grow beyond `room` bytes: the kernel's own refusal, in the middle of a write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("with_best", [False, True])
def test_comes_back_bit_for_bit(tmp_path, with_best):
    path = tmp_path / "checkpoint.safetensors"
    model, optimizer = run()
    best = {name: tensor + 1 for name, tensor in model.state_dict().items()} if with_best else {}
    checkpoint.save(path, model, optimizer, best, STATE)
    other, its_optimizer = run(seed=1)
    best_loaded, state = checkpoint.load(path, other, its_optimizer)
    assert state == STATE and best_loaded.keys() == best.keys()
    assert all(torch.equal(best_loaded[name], best[name]) for name in best)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        for moment, tensor in optimizer.state[ours].items():
            assert torch.equal(tensor, its_optimizer.state[theirs][moment]), moment


def test_what_is_wrong_is_said_and_changes_nothing(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    checkpoint.save(path, *run(), {}, STATE)
    whole = path.read_bytes()
    model, optimizer = run(seed=1)
    before = [p.clone() for p in model.parameters()]

    for cut in (0, 4, 100, len(whole) - 1):
        path.write_bytes(whole[:cut])
        message = refusal(lambda: checkpoint.load(path, model, optimizer))
        assert message.startswith(f"{path}: expected a whole safetensors file, got one cut short or damaged (")
    path.unlink()
    assert refusal(lambda: checkpoint.load(path, model, optimizer)) == (
        f"{path}: expected a file of weights, got none; check the folder"
    )
    path.write_bytes(checkpoint.as_bytes({"x": torch.zeros(2)}))
    assert "expected a checkpoint, got a safetensors file without its state" in refusal(
        lambda: checkpoint.load(path, model, optimizer)
    )
    checkpoint.save(path, *run(width=5), {}, STATE)
    assert refusal(lambda: checkpoint.load(path, model, optimizer)) == (
        f"{path}: expected model/0.weight of shape [4, 3], got [5, 3]; the file belongs to another configuration"
    )
    tensors, metadata = checkpoint.read_tensors(path)
    checkpoint.save(path, *run(), {}, STATE)
    tensors, metadata = checkpoint.read_tensors(path)
    del tensors["optimizer/1.bias/exp_avg"]
    path.write_bytes(checkpoint.as_bytes(tensors, metadata))
    assert "expected optimizer/1.bias/exp_avg of shape [4], got none" in refusal(
        lambda: checkpoint.load(path, model, optimizer)
    )
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    checkpoint.save(path, *run(), {}, STATE)
    whole = path.read_bytes()
    with full_disk(len(whole) // 2):
        message = refusal(lambda: checkpoint.save(path, *run(seed=1), {}, STATE))
    assert message.startswith(
        f"{tmp_path}: expected to write checkpoint.safetensors ({len(whole)} bytes), got: File too large; "
    )
    assert path.read_bytes() == whole
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_several_files_are_written_together_or_not_at_all(tmp_path):
    files.write_files(tmp_path, {"a": b"1", "b": b"2"})
    with full_disk(10):
        refusal(lambda: files.write_files(tmp_path, {"a": b"3", "b": b"4" * 20}))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a": b"1", "b": b"2"}


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    assert refusal(lambda: files.make_folder(tmp_path / "file" / "run")) == (
        f"{tmp_path / 'file' / 'run'}: expected to make a folder, got: Not a directory; name another"
    )
