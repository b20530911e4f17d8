"""One table of cases examines every mixer, read-out and whole encoder, so that a new one is one file and one row."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.func import functional_call

from sightline.encoders import KINDS, Convolution, FullyConnected, Readout, Recurrent, SelfAttention, build
from sightline.sequences import Sequences

WIDTH = 8
MIXERS = {
    "attention": lambda: SelfAttention(WIDTH, heads=2),
    "attention causal": lambda: SelfAttention(WIDTH, heads=2, causal=True, rotary=1.0),
    "attention window": lambda: SelfAttention(WIDTH, heads=2, window=2, rotary=0.0),
    "attention causal window": lambda: SelfAttention(WIDTH, heads=2, causal=True, window=3),
    "attention grouped": lambda: SelfAttention(WIDTH, heads=4, key_heads=2),
    "attention grouped causal": lambda: SelfAttention(WIDTH, heads=2, key_heads=1, causal=True, rotary=1.0),
    "lstm": lambda: Recurrent(WIDTH, cell="lstm"),
    "lstm causal": lambda: Recurrent(WIDTH, cell="lstm", causal=True),
    "rnn": lambda: Recurrent(WIDTH, cell="rnn"),
    "rnn causal": lambda: Recurrent(WIDTH, cell="rnn", causal=True),
    "convolution": lambda: Convolution(WIDTH, kernel=5),
    "convolution dilated": lambda: Convolution(WIDTH, kernel=3, dilation=4),
    "convolution causal": lambda: Convolution(WIDTH, kernel=4, causal=True),
    "convolution causal dilated": lambda: Convolution(WIDTH, kernel=3, dilation=3, causal=True),
    "connected": lambda: FullyConnected(WIDTH, largest=40, heads=2),
    "connected rank": lambda: FullyConnected(WIDTH, largest=40, rank=3),
    "connected causal": lambda: FullyConnected(WIDTH, largest=40, causal=True),
    "connected rank causal": lambda: FullyConnected(WIDTH, largest=40, rank=3, heads=4, causal=True),
}
READOUTS = {
    f"read-out {pool}": lambda pool=pool: Readout(WIDTH, 3, pool) for pool in (None, "mean", "max", "last", "attention")
}


def encoder(kind: str, causal: bool):
    options = {"largest": 40} if kind == "fully-connected" else {}
    return build(kind, features=WIDTH, width=WIDTH, layers=2, hidden=16, causal=causal, **options)


ENCODERS = {f"encoder {kind}": lambda kind=kind: encoder(kind, False) for kind in KINDS}
ENCODERS |= {f"encoder {kind} causal": lambda kind=kind: encoder(kind, True) for kind in KINDS}

CASES = MIXERS | READOUTS | ENCODERS
CAUSAL = {name: make for name, make in CASES.items() if "causal" in name}
LENGTHS = [[7, 0, 1, 13, 13, 2, 31, 0, 5], [1], [3, 3, 3], [0, 0], []]


def cases(table: dict):
    return pytest.mark.parametrize("make", table.values(), ids=table)


def seeded(make, dtype=torch.float32) -> torch.nn.Module:
    """The case's module with no parameter left at a special value, such as zero."""
    torch.manual_seed(0)
    module = make().to(dtype)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return module


def pack(lengths: list[int], dtype=torch.float32) -> Sequences:
    torch.manual_seed(1)
    values = torch.randn(sum(lengths), WIDTH, dtype=dtype, requires_grad=True)
    return Sequences(values, torch.tensor([0, *lengths]).cumsum(0))


def answers(module, x: Sequences) -> list[torch.Tensor]:
    """What the module says of each sequence: its rows, or its pooled scores."""
    out = module(x)
    if isinstance(out, Sequences):
        return out.to_list()
    return list(out) if getattr(module, "pool", None) else x.with_values(out).to_list()


def same(value: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-6) -> None:
    """Equal to `tolerance`, counted in the largest number expected where that is above 1."""
    largest = max(1.0, float(expected.detach().abs().max())) if expected.numel() else 1.0
    torch.testing.assert_close(value, expected, atol=tolerance * largest, rtol=0)


@cases(MIXERS | ENCODERS)
def test_same_offsets_out(make):
    x = pack(LENGTHS[0])
    out = seeded(make)(x)
    assert out.offsets is x.offsets and out.values.shape == x.values.shape


@cases(CASES)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_packed_is_alone_is_padded(make, lengths):
    module, x = seeded(make), pack(lengths)
    packed = answers(module, x)
    through_padding = answers(module, Sequences.from_padded(*x.to_padded(torch.nan)))
    assert len(packed) == len(lengths)
    for s, sequence in enumerate(x.to_list()):
        (alone,) = answers(module, Sequences(sequence, [0, len(sequence)]))
        same(packed[s], alone)
        same(packed[s], through_padding[s])
        if packed[s].numel():
            of_packed, of_alone = (
                torch.autograd.grad(y.square().sum(), x.values, retain_graph=True)[0] for y in (packed[s], alone)
            )
            same(of_packed, of_alone, 1e-5)  # the gradient too, and none for the neighbours


@cases(CASES)
def test_no_leak(make):
    module, x = seeded(make), pack(LENGTHS[0])
    before = answers(module, x)
    for s in (0, 3, 6):
        for content in (torch.nan, torch.inf, 100.0):
            values = x.values.detach().clone()
            x.with_values(values)[s].fill_(content)
            after = answers(module, x.with_values(values))
            for other in set(range(len(x))) - {s}:
                assert torch.equal(after[other], before[other])


@cases(CASES)
def test_gradient_reaches_every_parameter(make):
    module, x = seeded(make), pack(LENGTHS[0])
    torch.cat(answers(module, x)).sin().sum().backward()
    untouched = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert untouched == [] and bool(x.values.grad.isfinite().all())


@cases(CASES)
@pytest.mark.parametrize("lengths", [[0, 0], []], ids=str)
def test_no_rows_give_zero_gradients(make, lengths):
    module = seeded(make)
    out = module(pack(lengths))
    (out.values if isinstance(out, Sequences) else out).sum().backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in module.parameters())


@cases(CASES)
def test_gradients_are_those_of_finite_differences(make):
    module, x = seeded(make, torch.float64), pack([3, 0, 1, 4, 4], torch.float64)
    names, parameters = zip(*module.named_parameters(), strict=True)

    def f(values, *parameters):
        out = functional_call(module, dict(zip(names, parameters, strict=True)), (x.with_values(values),))
        return out.values if isinstance(out, Sequences) else out

    assert torch.autograd.gradcheck(f, (x.values, *parameters), fast_mode=True)


@cases(CASES)
def test_save_and_load(make, tmp_path):
    module, x = seeded(make), pack(LENGTHS[0])
    save_file(module.state_dict(), tmp_path / "weights.safetensors")
    other = make()
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert all(map(torch.equal, answers(module, x), answers(other, x)))


@cases(CASES)
def test_fresh_memory_may_hold_anything(make, monkeypatch):
    def run():
        x = pack(LENGTHS[0])
        out = torch.cat(answers(module, x))
        out.sin().sum().backward()
        return [out, x.values.grad, *(p.grad for p in module.parameters())]

    module = seeded(make)
    expected = run()
    module = seeded(make)
    for owner, name in ((torch, "empty"), (torch, "empty_like"), (torch.Tensor, "new_empty")):
        monkeypatch.setattr(owner, name, poisoned(getattr(owner, name)))
    assert all(map(torch.equal, run(), expected))


def poisoned(allocate):
    def allocate_with_nan(*args, **kwargs):
        memory = allocate(*args, **kwargs)
        return memory.fill_(torch.nan) if memory.is_floating_point() else memory

    return allocate_with_nan


@cases(CASES)
@pytest.mark.parametrize("method", ["cast", "autocast"])
def test_bfloat16(make, method):
    module, x = seeded(make), pack(LENGTHS[0])
    expected = torch.cat(answers(module, x))
    if method == "cast":
        module, x = module.bfloat16(), x.to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=method == "autocast"):
        out = torch.cat(answers(module, x))
    out.float().sin().sum().backward()
    assert (out.float() - expected).abs().max() < 0.05 * expected.abs().max()
    assert all(bool(p.grad.isfinite().all()) for p in module.parameters())


@cases(CAUSAL)
def test_later_rows_change_nothing(make):
    module, x = seeded(make), pack(LENGTHS[0])
    assert module.causal
    changed = torch.where((x.positions < 3)[:, None], x.values, 10 * torch.randn_like(x.values))
    for before, after in zip(answers(module, x), answers(module, x.with_values(changed)), strict=True):
        same(after[:3], before[:3])


@cases(CAUSAL)
def test_step_is_the_full_pass(make):
    module, x = seeded(make), pack([33, 33, 33])
    full = module(x).to_list()
    state, out = module.start(3), []
    for rows in torch.stack(x.to_list(), 1):
        y, state = module.step(rows, state)
        out.append(y)
    for value, expected in zip(torch.stack(out, 1), full, strict=True):
        same(value, expected)


@cases({name: make for name, make in MIXERS.items() if name not in CAUSAL})
def test_no_steps_unless_causal(make):
    module = make()
    assert not module.causal
    with pytest.raises(TypeError, match="expected a causal mixer to generate with.*build it with causal=True"):
        module.start(1)
    with pytest.raises(TypeError, match="expected a causal mixer to step.*build it with causal=True"):
        module.step(torch.zeros(1, WIDTH), None)


@pytest.mark.parametrize("kind", KINDS)
def test_tokens(kind):
    torch.manual_seed(0)
    options = {"largest": 9} if kind == "fully-connected" else {}
    module = build(kind, vocabulary=11, width=WIDTH, layers=1, causal=True, **options)
    x = Sequences(torch.randint(11, (14,)), [0, 5, 5, 14])
    rows = module(x)
    state = module.start(1)
    for token, expected in zip(x[2], rows[2], strict=True):
        y, state = module.step(token[None], state)
        same(y[0], expected)
