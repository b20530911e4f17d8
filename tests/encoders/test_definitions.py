"""Each mixer and read-out against its definition, one sequence at a time: values and every gradient, in float64."""

import pytest
import torch
from torch.nn.functional import conv1d

from sightline.encoders import Convolution, FullyConnected, Readout, Recurrent, SelfAttention, build
from sightline.encoders.self_attention import _turn
from sightline.sequences import Sequences

WIDTH = 8
LENGTHS = [5, 0, 1, 17, 17, 2, 40, 33, 9]


def recurrent(mixer: Recurrent, rows: torch.Tensor) -> torch.Tensor:
    """PyTorch's own cell in one or two directions, with the mixer's parameters."""
    cell = mixer.directions[0]
    whole = type(cell)(WIDTH, cell.hidden_size, bidirectional=not mixer.causal)
    suffixes = zip(("", "_reverse"), mixer.directions, strict=False)
    parameters = {name + suffix: p for suffix, cell in suffixes for name, p in cell.named_parameters()}
    return torch.func.functional_call(whole, parameters, rows)[0]


def convolution(mixer: Convolution, rows: torch.Tensor) -> torch.Tensor:
    before, after = max(0, -mixer.shifts[0]), max(0, mixer.shifts[-1])
    padded = torch.nn.functional.pad(rows.t(), (before, after))
    step = mixer.shifts[1] - mixer.shifts[0] if len(mixer.shifts) > 1 else 1
    return conv1d(padded[None], mixer.weight.permute(2, 1, 0), mixer.bias, dilation=step)[0].t()


def fully_connected(mixer: FullyConnected, rows: torch.Tensor) -> torch.Tensor:
    weights = mixer.weight if mixer.rank is None else mixer.left @ mixer.right.transpose(1, 2)
    n = len(rows)
    weights = torch.stack([w[:n, :n].tril() if mixer.causal else w[:n, :n] for w in weights])
    return torch.cat([w @ part for w, part in zip(weights, rows.chunk(mixer.heads, 1), strict=True)], 1)


def read_out(readout: Readout, rows: torch.Tensor) -> torch.Tensor:
    if len(rows) == 0:
        return readout.scores(rows.new_zeros(1, WIDTH))
    if readout.pool == "attention":
        pooled = torch.softmax(rows @ readout.query * WIDTH**-0.5, 0) @ rows
    else:
        pooled = {"mean": rows.mean(0), "max": rows.amax(0), "last": rows[-1]}[readout.pool]
    return readout.scores(pooled[None])


CASES = [
    (recurrent, lambda: Recurrent(WIDTH, cell="lstm")),
    (recurrent, lambda: Recurrent(WIDTH, cell="lstm", causal=True)),
    (recurrent, lambda: Recurrent(WIDTH, cell="rnn")),
    (recurrent, lambda: Recurrent(WIDTH, cell="rnn", causal=True)),
    (convolution, lambda: Convolution(WIDTH, kernel=5)),
    (convolution, lambda: Convolution(WIDTH, kernel=3, dilation=8)),
    (convolution, lambda: Convolution(WIDTH, kernel=1)),
    (convolution, lambda: Convolution(WIDTH, kernel=2, dilation=3, causal=True)),
    (fully_connected, lambda: FullyConnected(WIDTH, largest=40)),
    (fully_connected, lambda: FullyConnected(WIDTH, largest=50, heads=4, causal=True)),
    (fully_connected, lambda: FullyConnected(WIDTH, largest=50, rank=3, heads=2)),
    (fully_connected, lambda: FullyConnected(WIDTH, largest=40, rank=3, causal=True)),
    *((read_out, lambda pool=pool: Readout(WIDTH, 3, pool)) for pool in ("mean", "max", "last", "attention")),
]


def result(module, x: torch.Tensor, run) -> list[torch.Tensor]:
    """The output, and the gradients of a fixed function of it: by the input, then by every parameter."""
    out = run(x)
    probe = torch.arange(out.numel()).view(out.shape).cos()
    return [out, *torch.autograd.grad((out * probe).sum(), (x, *module.parameters()))]


def packed(module, offsets):
    def run(x):
        out = module(Sequences(x, offsets))
        return out.values if isinstance(out, Sequences) else out

    return run


@pytest.mark.parametrize("define, make", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_values_and_gradients_are_the_definition(define, make, seed):
    torch.manual_seed(seed)
    lengths = torch.tensor(LENGTHS)[torch.randperm(len(LENGTHS))]
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    module = make().double()
    x = torch.randn(int(offsets[-1]), WIDTH, dtype=torch.float64, requires_grad=True)

    def one_by_one(x):
        rows = Sequences(x, offsets).to_list()
        return torch.cat([define(module, r) for r in rows if len(r) or define is read_out])

    for value, expected in zip(result(module, x, packed(module, offsets)), result(module, x, one_by_one), strict=True):
        torch.testing.assert_close(value, expected, atol=1e-10, rtol=1e-10)


def test_an_lstm_starts_by_remembering():
    for direction in Recurrent(WIDTH).directions:
        assert torch.equal(direction.bias_ih_l0[4:8] + direction.bias_hh_l0[4:8], torch.ones(4))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("rank", [None, 16])
def test_full_connection_keeps_the_variance_at_any_length(causal, rank):
    torch.manual_seed(0)
    mixer = FullyConnected(256, largest=256, rank=rank, causal=causal)
    for n in (1, 16, 256):
        variance = float(mixer(Sequences(torch.randn(n, 256), [0, n])).values.detach().var())
        assert 0.1 < variance < 10


def test_attention_pooling_survives_large_scores():
    readout = Readout(WIDTH, 2, "attention")
    torch.nn.init.ones_(readout.query)
    x = torch.full((4, WIDTH), 1e4)
    torch.testing.assert_close(readout(Sequences(x, [0, 1, 4])), readout.scores(x[:2]))


E = torch.zeros(3, 8)
MESSAGES = [
    (lambda: Recurrent(8, cell="gru"), ValueError, "recurrent: expected cell lstm or rnn, got 'gru'; choose one"),
    (lambda: Recurrent(7), ValueError, "recurrent: expected an even width for two directions, got 7; make it even"),
    (lambda: Convolution(8, kernel=0), ValueError,
        "convolution: expected kernel and dilation of at least 1, got 0 and 1"),
    (lambda: Convolution(8, dilation=0), ValueError,
        "convolution: expected kernel and dilation of at least 1, got 5 and 0"),
    (lambda: Convolution(8, kernel=4), ValueError,
        "convolution: expected an odd kernel, to have a middle, got 4; take 5"),
    (lambda: FullyConnected(8, 4, heads=3), ValueError,
        "fully-connected: expected a width that is a multiple of heads, got 8"),
    (
        lambda: FullyConnected(8, largest=2)(Sequences(E, [0, 3])),
        ValueError,
        "fully-connected: a sequence of 3 rows is longer than the largest length 2 this encoder was built for; "
        "build it with largest=3 or cut the sequence",
    ),
    (lambda: Readout(8, 2, "sum"), ValueError,
        "read-out: expected pool None or one of mean, max, last, attention, got 'sum'"),
    (lambda: SelfAttention(8, heads=3), ValueError,
        "self-attention: expected a width that is a multiple of heads, .*got width 8"),
    (lambda: SelfAttention(8, heads=4, key_heads=3), ValueError,
        "self-attention: .*heads 4, key_heads 3; change one of them"),
    (lambda: SelfAttention(8, heads=0), ValueError,
        "self-attention: expected a width that is a multiple of heads, .*heads 0"),
    (lambda: SelfAttention(8, rotary=2), ValueError, "self-attention: expected rotary from 0 to 1, .*got 2; change it"),
    (lambda: build("rnn", vocabulary=8, width=8)(E), TypeError,
        "encoder: expected Sequences, got Tensor; make them with"),
    (lambda: build("rnn", vocabulary=8, width=8)(Sequences(E > 0, [0, 3])), TypeError,
        "encoder: expected token ids as integers"),
    (lambda: build("gru", features=8, width=8), ValueError,
        "build: expected one of self-attention, rnn, .*got 'gru'; choose one"),
    (lambda: build("lstm", width=8), ValueError, "build: expected either vocabulary or features, got None and None"),
    (lambda: build("lstm", features=8, vocabulary=8), ValueError,
        "build: expected either vocabulary or features, got 8 and 8"),
    (lambda: build("lstm", features=8, dilation="wide"), ValueError,
        "build: expected dilation plain or dilated, got 'wide'"),
    (lambda: build("lstm", features=8, kernel=3), TypeError, "kernel"),
    (
        lambda: build("lstm", vocabulary=8, width=8)(Sequences(E, [0, 3])),
        TypeError,
        "encoder: expected token ids as integers .*build it with features= for vectors",
    ),
    (
        lambda: build("lstm", features=4, width=8)(Sequences(E, [0, 3])),
        ValueError,
        r"encoder: expected vectors \[T, 4\], got \[3, 8\]; pass rows of as many features",
    ),
]  # fmt: skip


@pytest.mark.parametrize("act, kind, message", MESSAGES)
def test_messages(act, kind, message):
    with pytest.raises(kind, match=message) as raised:
        act()
    assert "\n" not in str(raised.value)


def test_a_step_beyond_the_largest_length_says_so():
    mixer = FullyConnected(8, largest=2, causal=True)
    state = mixer.start(3)
    for _ in range(2):
        _, state = mixer.step(E, state)
    with pytest.raises(ValueError, match="a sequence of 3 rows is longer than the largest length 2"):
        mixer.step(E, state)


def test_dilation_grows_by_layer():
    plain, dilated = (build("convolution", features=8, width=8, kernel=3, dilation=d) for d in ("plain", "dilated"))
    assert [block.mixer.shifts for block in plain.blocks] == [(-1, 0, 1)] * 3
    assert [block.mixer.shifts for block in dilated.blocks] == [(-1, 0, 1), (-2, 0, 2), (-4, 0, 4)]


@pytest.mark.parametrize("head_width", [4, 5, 6, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rotary_turns_pairs_of_columns_whatever_the_width_of_a_head(head_width, dtype):
    rows = torch.randn(6, 3, head_width, dtype=dtype)
    turn = torch.polar(torch.ones(6, 2), torch.randn(6, 2))
    expected, (real, imaginary) = rows.clone(), (turn.real.to(dtype), turn.imag.to(dtype))
    for pair in range(2):
        a, b = rows[:, :2, 2 * pair], rows[:, :2, 2 * pair + 1]
        expected[:, :2, 2 * pair] = a * real[:, pair, None] - b * imaginary[:, pair, None]
        expected[:, :2, 2 * pair + 1] = a * imaginary[:, pair, None] + b * real[:, pair, None]
    torch.testing.assert_close(_turn(rows.clone(), turn, 2, 4), expected)


@pytest.mark.parametrize("heads, key_heads", [(2, 2), (4, 2), (3, 3), (1, 1), (4, 1)])
def test_every_second_key_head_begins_looking_at_rows_like_itself(heads, key_heads):
    mixer = SelfAttention(24, heads=heads, key_heads=key_heads)
    q, k, _ = mixer.project_in.weight.view(-1, mixer.head_width, 24).split([heads, key_heads, key_heads])
    for head in range(heads):
        group = head // (heads // key_heads)
        assert torch.equal(q[head], k[group]) == (group % 2 == 0)
        if group % 2 == 0:
            torch.testing.assert_close(k[group] @ k[group].t(), torch.eye(mixer.head_width))
