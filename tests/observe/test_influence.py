"""Influence: exact where stated, zero where none is possible, unbiased where estimated; the model stays unchanged."""

import copy
import itertools
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from torch import nn
from torch.autograd.functional import jacobian
from transformers import AutoConfig, AutoModel, BertConfig, BertForMaskedLM, BertModel

import sightline.huggingface  # noqa: F401  registers "sightline"
from sightline.encoders import KINDS, Mixer, Readout, build
from sightline.observe.influence import Profile, influence, influence_on, untrained
from sightline.sequences import Sequences

SEQUENCES = [[1, 2, 3, 4, 5, 6, 7], [], [8], [3, 1, 3, 1, 3, 9, 2, 7, 0, 4, 5], [2, 2]]  # 7, 0, 1, 11, 2
ALL = {"rows": None, "probes": None}
assert_close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-12)
SMALL = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL |= {"intermediate_size": 12, "max_position_embeddings": 24}
GPT2 = {"vocab_size": 20, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 24}
HUGGINGFACE = {
    "bert": SMALL,
    "roberta": SMALL | {"pad_token_id": 1},
    "llama": SMALL | {"num_key_value_heads": 1},
    "gpt2": GPT2 | {"bos_token_id": 1, "eos_token_id": 2},
    "t5": {"vocab_size": 20, "d_model": 8, "d_kv": 4, "d_ff": 12, "num_layers": 2, "num_heads": 2},
    "bloom": {"vocab_size": 20, "hidden_size": 8, "n_layer": 2, "n_head": 2},  # computes attention of its own
}
USUAL = {"self-attention": {"width": 8, "heads": 2}, "convolution": {"kernel": 3}}
USUAL |= {"fully-connected": {"largest": 40}}
kinds = pytest.mark.parametrize("kind", KINDS)
causality = pytest.mark.parametrize("causal", [False, True])
huggingface = pytest.mark.parametrize("name", HUGGINGFACE)


def hugging(name):
    torch.manual_seed(2)
    model = AutoModel.from_config(AutoConfig.for_model(name, **HUGGINGFACE[name]))
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.4) if weight.dim() > 1 else nn.init.uniform_(weight, 0.5, 1.5)
    return model.double().eval()


def encoder_of(kind, causal=False, layers=2, **options):
    torch.manual_seed(1)
    options = {"width": 4} | USUAL.get(kind, {}) | options
    return build(kind, vocabulary=10, layers=layers, causal=causal, **options).double().eval()


either = pytest.mark.parametrize("make", [lambda: encoder_of("rnn"), lambda: hugging("bert")])


def squared_jacobian(encoder, ids):
    """|J_ij|^2 of one sequence [n, n], by torch's own Jacobian and the encoder's parts."""
    x, mix = Sequences(torch.tensor(ids), [0, len(ids)]), nn.Sequential(*encoder.blocks)
    rows = encoder.embedding(x.values).detach()
    whole = jacobian(lambda rows: encoder.norm(mix(x.with_values(rows)).values), rows)
    return whole.square().sum((1, 3))


def by_distance(pairs, longest):
    """The sums of a map's diagonals [2 N - 1]."""
    square = nn.functional.pad(pairs, (0, longest - len(pairs)) * 2)
    return torch.stack([square.diagonal(distance).sum() for distance in range(1 - longest, longest)])


@causality
@kinds
def test_exact_is_torchs_jacobian_and_sequences_do_not_meet(kind, causal):
    encoder = encoder_of(kind, causal)
    maps = [squared_jacobian(encoder, ids) for ids in SEQUENCES if ids]
    expected = sum(by_distance(one, 11) for one in maps)  # each sequence by itself
    result = influence(encoder, SEQUENCES, **ALL)
    assert_close(result.profile.total, expected)
    assert (result.sampled, influence(encoder, SEQUENCES, rows=3).sampled, result.rows) == (21, 9, 21)
    packed = Sequences.from_list([torch.tensor(ids, dtype=torch.int32) for ids in SEQUENCES[::-1]])
    assert_close(influence(encoder, packed, **ALL).profile.total, expected)
    assert_close(influence_on(encoder, SEQUENCES[0], 2), maps[0][2])
    assert_close(influence_on(encoder, SEQUENCES[0], [0, -1, 3, 3]), maps[0][[0, 6, 3, 3]])


@huggingface
def test_exact_is_torchs_jacobian_in_other_peoples_models(name):
    model, ids = hugging(name), [3, 4, 5, 6, 7]
    base = model.get_encoder() if name == "t5" else model
    rows = model.get_input_embeddings()(torch.tensor(ids)).detach()
    expected = jacobian(lambda rows: base(inputs_embeds=rows[None]).last_hidden_state[0], rows)
    expected = expected.square().sum((1, 3))
    assert_close(influence_on(model, ids, range(5)), expected)
    result = influence(model, [ids, [], [9], ids], **ALL).profile
    alone = by_distance(influence_on(model, [9], 0)[None], 5)
    assert_close(result.total, 2 * by_distance(expected, 5) + alone)
    assert (result.total[result.distance > 0] == 0).all() == (name in ("llama", "gpt2", "bloom"))
    assert (result.total[result.distance <= 0] > 0).all()


@kinds
def test_vectors(kind):
    torch.manual_seed(3)
    options = {"largest": 9} if kind == "fully-connected" else {}
    encoder = build(kind, features=3, width=8, layers=1, **options).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    expected = jacobian(lambda v: encoder(Sequences(v, [0, 5])).values, x).square().sum((1, 3))
    assert_close(influence_on(encoder, x, 2), expected[2])
    assert_close(influence(encoder, Sequences(x, [0, 0, 5]), **ALL).profile.total, by_distance(expected, 5))
    influence(encoder, [x.float(), torch.zeros(0, 3)])  # taken in the model's own precision


@pytest.mark.parametrize("n", [1, 2, 3, 5, 13, 17])
def test_quarters_add_up_and_pairs_are_counted(n, monkeypatch):
    monkeypatch.setitem(influence.__globals__, "TOKENS", 3)  # one batch for each
    encoder, ids = encoder_of("self-attention", layers=1), [i % 10 for i in range(n)]
    result = influence(encoder, [ids, ids[:3]], **ALL)
    maps = [squared_jacobian(encoder, ids), squared_jacobian(encoder, ids[:3])]
    for q, quarter in enumerate(result.quarters):
        total, pairs = torch.zeros(2, 2 * n - 1, dtype=torch.float64)
        for one in maps:
            rows = torch.arange(len(one))
            in_quarter = ((rows >= q * len(one) // 4) & (rows < (q + 1) * len(one) // 4)).double()[:, None]
            total += by_distance(one * in_quarter, n)
            pairs += by_distance(torch.ones_like(one) * in_quarter, n)
        assert_close(quarter.total, total)
        assert quarter.pairs.tolist() == pairs.tolist()
    assert_close(result.profile.mean * result.profile.pairs, sum(q.total for q in result.quarters))
    assert influence(encoder_of("rnn", causal=True), [ids], **ALL).quarters[3].within(1.0) == n - 1


def reach(encoder, longest=31):  # exactly nothing elsewhere
    profile = influence(encoder, [[i % 10 for i in range(longest)]], rows=None).profile
    return set(profile.distance[profile.total != 0].tolist())


@causality
@pytest.mark.parametrize("dilation", ["plain", "dilated"])
@pytest.mark.parametrize("kernel, layers", [(3, 1), (3, 3), (5, 2), (1, 2)])
def test_a_convolution_reaches_by_kernel_dilation_and_layers(kernel, layers, dilation, causal):
    encoder = encoder_of("convolution", causal, layers, kernel=kernel, dilation=dilation)
    gaps = [2**layer if dilation == "dilated" else 1 for layer in range(layers)]
    taps = range(1 - kernel, 1) if causal else range(-(kernel // 2), kernel // 2 + 1)
    fields = [{0, *(gap * tap for tap in taps)} for gap in gaps]  # 0: past the mixer
    assert reach(encoder) == {sum(steps) for steps in itertools.product(*fields)}


@causality
@pytest.mark.parametrize("kind", ["self-attention", "rnn", "lstm", "fully-connected"])
def test_the_others_reach_all_or_their_window_and_if_causal_nothing_later(kind, causal):
    assert reach(encoder_of(kind, causal, layers=1), 13) == set(range(-12, 1 if causal else 13))
    for window, layers in [(1, 1), (2, 3), (0, 2)] if kind == "self-attention" else []:
        result = reach(encoder_of(kind, causal, layers, window=window))
        assert result == set(range(-window * layers, 1 if causal else window * layers + 1))


@pytest.mark.parametrize("make", [*(lambda k=k: encoder_of(k) for k in KINDS), lambda: hugging("bert")])
def test_probes_converge(make):
    model, ids, probes = make(), SEQUENCES[3], 200
    exact, result = influence_on(model, ids, 4), influence_on(model, ids, 4, probes=probes)
    error = 5 * (2 / probes) ** 0.5  # five standard errors, each at most sqrt(2 / probes) of the value
    assert ((result - exact).abs() <= error * exact).all() and not torch.equal(result, exact)


def test_rows_stand_for_their_stretches():
    """The mean over seeds is within five standard errors of the exact total, with the variance of one row a stretch."""
    encoder, n, rows, seeds = encoder_of("rnn", layers=1), 13, 4, 40
    ids = [i * i % 10 for i in range(n)]
    pairs = squared_jacobian(encoder, ids)
    each = torch.stack([by_distance(pairs * (torch.arange(n) == i)[:, None], n) for i in range(n)])
    stretches = itertools.pairwise([k * n // rows for k in range(rows + 1)])
    variance = sum((b - a) ** 2 * each[a:b].var(0, correction=0) for a, b in stretches)
    results = [influence(encoder, [ids], rows=rows, probes=None, seed=seed) for seed in range(seeds)]
    assert all(one.profile.pairs.tolist() == [*range(1, n), *range(n, 0, -1)] for one in results)
    error = sum(one.profile.total for one in results) / seeds - each.sum(0)
    assert (error.abs() <= 5 * (variance / seeds).sqrt() + 1e-12).all() and (error.abs() > 1e-9).any()


def test_one_probe_over_all_rows_tells_a_profile():
    encoder, sequences = encoder_of("rnn", width=16), [[(i * k) % 10 for i in range(23)] for k in range(1, 5)]
    exact = influence(encoder, sequences, **ALL).profile.total[14:-14]
    one, again, other = (influence(encoder, sequences, rows=None, seed=s).profile.total for s in (1, 1, 2))
    error = 5 * (2 / 60) ** 0.5  # 60 pairs and more at each distance up to 8, each of its own signs
    assert ((one[14:-14] - exact).abs() <= error * exact).all()
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_within():
    total = torch.tensor([4.0, 0, 10, 50, 30, 5, 1], dtype=torch.float64)
    profile = Profile(torch.arange(-3, 4), total, torch.ones(7, dtype=torch.int64))
    assert (profile.d50, profile.d90, profile.d99, profile.within(1.0)) == (0, 1, 3, 3)
    assert profile.within(0.95) == 2 and profile.within(0.951) == 3
    assert_close(profile.share, total / 100)
    for share in (0, -1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="influence: expected a share above 0, up to 1"):
            profile.within(share)


@pytest.mark.parametrize("sequences", [[], [[]], [[], []]])
@either
def test_nothing(make, sequences):
    profile = influence(make(), sequences).profile
    assert profile.total.tolist() == [0] and profile.share.tolist() == [0] and profile.pairs.tolist() == [0]
    assert profile.within(0.5) is None and "distances 0 to 0; 50% within None" in repr(profile)


def state(model):
    parts = {name: part.training for name, part in model.named_modules()}
    facts = [(p.dtype, p.requires_grad, p.grad, p.data_ptr(), p._version) for p in model.parameters()]
    return parts, facts, torch.get_rng_state().tolist()


@pytest.mark.parametrize("name", [*KINDS, "bert", "t5"])
def test_the_model_is_left_alone(name):
    model = (encoder_of(name) if name in KINDS else hugging(name)).train()
    next(model.children()).eval()  # a mixture
    next(model.parameters()).requires_grad_(False)
    before, ids = state(model), [3, 4, 5, 6]
    influence(model, [ids])
    influence_on(model, ids, 1, probes=2)
    untrained(model)
    for bad in ([[3, 99]], [[-1]]):
        with pytest.raises(ValueError, match="influence: expected token ids from 0 to"):
            influence(model, bad)
    assert state(model) == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_is_the_models(dtype):
    exact, encoder = influence_on(encoder_of("rnn"), SEQUENCES[0], 3), encoder_of("rnn").to(dtype)
    result, near = influence_on(encoder, SEQUENCES[0], 3), 16 * torch.finfo(dtype).eps
    assert result.dtype == torch.float64 and next(encoder.parameters()).dtype == dtype
    torch.testing.assert_close(result, exact, rtol=near, atol=near * float(exact.max()))
    assert untrained(encoder).embedding.table.weight.dtype == dtype


def test_neither_dropout_nor_surroundings_nor_other_threads_matter():
    encoder = encoder_of("self-attention", dropout=0.5)
    expected = influence(encoder, SEQUENCES).profile.total
    for surroundings in (torch.no_grad(), torch.inference_mode(), torch.enable_grad()):
        with surroundings:
            assert torch.equal(influence(encoder.train(), SEQUENCES).profile.total, expected)
    for result in ThreadPoolExecutor(3).map(lambda _: influence(encoder, SEQUENCES), range(3)):
        assert torch.equal(result.profile.total, expected)


def test_the_implementation_of_attention_does_not_matter():
    model = hugging("bert")
    expected = influence(model, [[3, 4, 5, 6, 7], [8]]).profile.total
    for implementation in ("eager", "sdpa", "sightline"):
        model.set_attn_implementation(implementation)
        assert_close(influence(model, [[3, 4, 5, 6, 7], [8]]).profile.total, expected)
        for one in (model, untrained(model)):
            assert one.config._attn_implementation == implementation


def test_models_that_hold_one():
    holder, head = nn.Module(), BertForMaskedLM(BertConfig(**SMALL))
    holder.encoder, holder.readout = encoder_of("rnn"), Readout(4, 2)
    for model, inside in ((holder, holder.encoder), (head, head.bert)):
        assert torch.equal(influence_on(model, [3, 4, 5], 1), influence_on(inside, [3, 4, 5], 1))
    assert type(untrained(holder)) is type(holder.encoder) and type(untrained(head)) is BertForMaskedLM


@pytest.mark.parametrize(
    "options",
    [
        *({"kind": kind, "causal": causal} for kind in KINDS for causal in (False, True)),
        {"kind": "self-attention", "heads": 4, "key_heads": 2, "window": 3, "rotary": 1.0},
        *({"kind": "self-attention", "heads": 1, "rotary": share} for share in (0.0, 0.3, 0.55, 0.9)),
        {"kind": "convolution", "kernel": 5, "dilation": "dilated"},
        {"kind": "convolution", "kernel": 1},
        {"kind": "fully-connected", "rank": 3, "heads": 2},
    ],
    ids=str,
)
def test_untrained_is_built_the_same_and_drawn_anew(options):
    torch.manual_seed(4)
    options = {"largest": 9} | options if options["kind"] == "fully-connected" else options
    model = build(vocabulary=10, width=24, layers=3, **options)
    fitted = copy.deepcopy(model)
    for weight in fitted.parameters():
        nn.init.constant_(weight, 7.0)
    control, again, other = untrained(fitted, 1), untrained(fitted, 1), untrained(fitted, 2)
    assert repr(control) == repr(model)
    mixers = [{k: v for k, v in vars(m).items() if k[0] != "_"} for e in (model, control) for m in e.modules()]
    assert mixers[: len(mixers) // 2] == mixers[len(mixers) // 2 :]  # all settings
    for name, parameter in model.named_parameters():
        a, b, c = (one.get_parameter(name) for one in (control, again, other))
        assert torch.equal(a, b) and not (a == 7).all(), name
        if parameter.std(correction=0) == 0:  # norms, and biases that begin at nothing
            assert torch.equal(a, parameter), name
        else:
            assert not torch.equal(a, c) and not torch.equal(a, parameter), name
            assert 0.4 < a.std(correction=0) / parameter.std(correction=0) < 2.5, name  # of one distribution
    control.load_state_dict(model.state_dict())
    assert torch.equal(influence_on(control, [1, 2, 3], 1), influence_on(model, [1, 2, 3], 1))


@huggingface
def test_untrained_models_of_other_people(name):
    model = hugging(name).train()
    control, again, other = untrained(model, 1), untrained(model, 1), untrained(model, 2)
    assert type(control) is type(model) and control.training and control.dtype == torch.float64
    drawn = zip(model.parameters(), control.parameters(), again.parameters(), other.parameters(), strict=True)
    for parameter, a, b, c in drawn:
        assert a.shape == parameter.shape and torch.equal(a, b) and not torch.equal(a, parameter)
        assert torch.equal(a, c) == (a.std(correction=0) == 0)
    assert influence(control, [[3, 4, 5]]).profile.d99 is not None


def test_the_control_tells_training_from_build():
    encoder = encoder_of("convolution", layers=1, kernel=5, width=8)
    with torch.no_grad():
        encoder.blocks[0].mixer.weight[:4] = 0  # as if learned: only the row two later counts
        encoder.blocks[0].mixer.weight[4] *= 50
    learned, control = (influence(m, [[1] * 17], **ALL).profile for m in (encoder, untrained(encoder)))
    far = learned.distance.abs() == 2
    assert learned.share[far].sum() > 0.3 > 0.1 > control.share[far].sum() > 0
    assert learned.share[learned.distance == -2] == 0 < control.share[learned.distance == -2]


def test_mixers_of_ones_own():
    encoder, own = encoder_of("rnn", layers=1), Mixer()
    own.inner, own.forward = nn.Linear(4, 4), lambda x: x  # looks at no other row
    encoder.blocks[0].mixer = own
    assert influence(encoder, SEQUENCES).profile.within(1.0) == 0
    assert not torch.equal(untrained(encoder).blocks[0].mixer.inner.bias, own.inner.bias)
    own.weight = nn.Parameter(torch.zeros(4))
    with pytest.raises(ValueError, match="untrained: expected modules whose weights can be drawn again, got Mixer"):
        untrained(encoder)


class Other(BertModel):
    def __init__(self, change):
        super().__init__(BertConfig(**SMALL))
        self.change = change

    def forward(self, input_ids=None, inputs_embeds=None):
        outputs = super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds)
        outputs.last_hidden_state = self.change(outputs.last_hidden_state, input_ids)
        return outputs


@pytest.mark.parametrize(
    "make, sequences, expected",
    [
        (lambda: Other(lambda rows, ids: rows.detach()), [[3]], "influence: expected outputs with a gradient"),
        (lambda: Other(lambda rows, ids: rows * torch.nan), [[3]], "influence: expected finite gradients"),
        (lambda: encoder_of("fully-connected"), [[1] * 41], "longer than the largest length 40"),
        (lambda: hugging("bert"), [[3] * 25, [4]], "BertModel can take, got up to 25 tokens"),
        (lambda: hugging("roberta"), [[3] * 25, [4]], "RobertaModel can take, got up to 25 tokens"),
        (lambda: hugging("gpt2"), [[3] * 25, [4]], "GPT2Model can take, got up to 25 tokens"),
        (lambda: hugging("roberta"), [[3, 1, 4]], "expected the same outputs"),  # 1 is padding, not counted
        (lambda: Other(lambda rows, ids: rows * (ids is None)), [[3]], "expected the same outputs from ids"),
        (lambda: Other(lambda rows, ids: rows[:, :1]), [[3, 4]], r"expected outputs \[1, 2, E\], one for"),
    ],
)
def test_models_that_cannot_be_asked(make, sequences, expected):
    with pytest.raises(ValueError, match=expected):
        influence(make(), sequences)


def test_bad_numbers_and_models():
    encoder = encoder_of("rnn")
    for call, expected in {
        partial(influence, encoder, [[1]], rows=0): "influence: expected rows of at least 1, got 0",
        partial(influence, encoder, [[1]], probes=-1): "influence: expected probes of at least 1, got -1",
        partial(influence_on, encoder, [1], 0, probes=0): "influence_on: expected probes of at least 1, got",
        partial(influence_on, encoder, [1, 2], 2): "expected a row of the sequence's 2, got 2; count from 0",
        partial(influence_on, encoder, [1, 2], -3): "expected a row of the sequence's 2, got -3",
        partial(influence_on, encoder, [], 0): "expected a row of the sequence's 0, got 0",
    }.items():
        with pytest.raises(ValueError, match=expected):
            call()
    for model in (nn.Linear(2, 2), "bert", None):
        for call in (partial(influence, sequences=[]), partial(influence_on, sequence=[1], row=0), untrained):
            with pytest.raises(TypeError, match="expected an encoder of sightline, a model that holds one"):
                call(model)
    closed = type("Closed", (BertModel,), {"forward": lambda self, input_ids: 0})(BertConfig(**SMALL))
    with pytest.raises(ValueError, match="expected a model that takes inputs_embeds, got Closed"):
        influence(closed, [[1]])


@either
def test_bad_sequences(make):
    for expected, sequences in {
        "expected an iterable of .*, got": ("text", 5),
        "expected sequences of token ids .* tokenize first": (["text"], [["a"]], [[[1], [2, 3]]]),
        "expected a list of sequences, token ids": ([1, 2, 3], [torch.zeros(1, 1, 1)]),
        "expected token ids, integers": ([[0.5, 1.5]], [torch.ones(2, 3)], [[True, False]]),
    }.items():
        for bad in sequences:
            with pytest.raises(TypeError, match=expected):
                influence(make(), bad)
