"""The proof of how a model packs: on a twin, whatever the caller's context, for the model as it is now, and strict."""

import copy
import gc
import threading
import weakref

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel, RobertaConfig, RobertaModel

from sightline.attention import watching
from sightline.huggingface import run, unpad
from sightline.huggingface.base_model import Packability
from sightline.huggingface.packability import enable_packing
from sightline.huggingface.twin import try_on_twin
from tests.huggingface.small import PACKABILITY, SMALL, bert, drawn, llama, roberta

MASK = torch.tensor([[1] * 9, [1] * 4 + [0] * 5, [1] * 7 + [0] * 2])
IDS = torch.randint(5, 100, MASK.shape, generator=torch.Generator().manual_seed(3))
LOOKS_ACROSS = "BertModel looks or counts across the whole row"
DEPENDS = "what it gives a sequence depends on what else is in the batch"


def sequences():
    return [ids[mask.bool()] for ids, mask in zip(IDS, MASK, strict=True)]


def rows_of(model):
    """The real rows of a padded call, and how many rows each attention call of sightline worked on."""
    worked = []
    with torch.no_grad(), watching(lambda request, _: worked.append(len(request.q))):
        rows = model(IDS, attention_mask=MASK)[0][MASK.bool()]
    return rows, set(worked)


def eager(model):
    twin = copy.deepcopy(model)
    for part in twin.modules():
        if hasattr(part, "set_attn_implementation"):
            part.set_attn_implementation("eager")
    return rows_of(twin)[0]


def close(rows, expected, tolerance=1e-5):
    torch.testing.assert_close(rows, expected, rtol=0, atol=tolerance * float(expected.detach().abs().max()))


def packs(model):
    """Whether padded calls give eager attention's rows, and do no work on padding."""
    rows, worked = rows_of(model)
    close(rows, eager(model))
    return worked == {int(MASK.sum())}


def beside(part: nn.Module, more: nn.Module) -> nn.Sequential:
    return nn.Sequential(part, more).eval()


class Across(nn.Module):
    """Adds a convolution over the row: what a gate of zero hides until it is trained."""

    def __init__(self, gate: float):
        super().__init__()
        self.gate, self.over = nn.Parameter(torch.tensor([gate])), nn.Conv1d(32, 32, 3, padding=1)

    def forward(self, x):
        return x + self.gate * self.over(x.transpose(1, 2)).transpose(1, 2)


# --- the caller's model and context -----------------------------------------------------------------------------------


def test_the_model_is_neither_run_nor_changed():
    model, calls, random = bert(), [], torch.get_rng_state()
    model.train()
    model.encoder.layer[1].eval()
    for part in model.modules():
        part.register_forward_hook(lambda *_: calls.append(1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes, hooks = ([getattr(part, what) for part in model.modules()] for what in ("training", "_forward_hooks"))
    hooks = [dict(one) for one in hooks]
    assert enable_packing(model) == Packability(True, 0)
    assert not calls and [part.training for part in model.modules()] == modes
    assert [dict(part._forward_hooks) for part in model.modules()] == hooks
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


CONTEXTS = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference": torch.inference_mode,
    "no gradients": torch.no_grad,
    "another device": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("make", [bert, roberta, llama], ids=lambda make: make.__name__)
@pytest.mark.parametrize("context", CONTEXTS)
def test_the_callers_context_has_no_say(make, context):
    model = make()
    with CONTEXTS[context]():
        unpad(model)
    assert packs(model)
    assert model(IDS, attention_mask=MASK)[0].requires_grad


def test_run_under_autocast_is_no_worse_than_eager_there():
    model = bert()
    with torch.no_grad():
        expected = torch.cat([model(one[None])[0][0] for one in sequences()])
        with torch.autocast("cpu", torch.bfloat16):
            model.set_attn_implementation("eager")
            alone = torch.cat([model(one[None])[0][0] for one in sequences()])
            packed = run(model, sequences()).values
    assert (packed - expected).abs().max() <= 2 * (alone - expected).abs().max()


def test_a_watcher_sees_the_call_and_no_trial():
    assert rows_of(unpad(copy.deepcopy(unpad(bert()))))[1] == {int(MASK.sum())}
    model, worked = bert(), []
    with watching(lambda request, _: worked.append(len(request.q))):
        run(model, sequences())
    assert worked == [int(MASK.sum())] * 2


def test_a_refused_model_keeps_its_attention_and_is_tried_anew():
    model, whole = bert(), bert()
    model.set_attn_implementation("sdpa")
    model.encoder.layer[1].output.dense.bias.data[3] = torch.nan
    with pytest.raises(ValueError, match="its weights are damaged: load them again"):
        unpad(model)
    assert model.config._attn_implementation == "sdpa" and type(model) is BertModel
    model.load_state_dict(whole.state_dict())
    assert packs(unpad(model))


def test_a_model_is_freed_when_nobody_holds_it():
    model = bert()
    enable_packing(model)
    reference = weakref.ref(model)
    gc.disable()
    try:
        del model
        assert reference() is None
    finally:
        gc.enable()


def test_the_twin_has_parts_of_its_own_over_the_same_weights():
    model = unpad(bert())
    weights = {name: weight.data_ptr() for name, weight in model.named_parameters()}
    seen = {}

    def trial(twin):
        seen.update(kind=type(twin), training=twin.training, gradients=torch.is_grad_enabled())
        seen["same"] = all(weight.data_ptr() == weights[name] for name, weight in twin.named_parameters())
        seen["parts"] = set(map(id, twin.modules())) & set(map(id, model.modules()))
        seen["settings"] = twin.config is model.config
        return threading.current_thread()

    assert try_on_twin(model.train(), trial) is not threading.current_thread()
    no = dict.fromkeys(("training", "gradients", "settings"), False)
    assert seen == {"kind": BertModel, "same": True, "parts": set(), **no}


# --- a model that changes after the proof -----------------------------------------------------------------------------


def test_a_part_put_in_afterwards_is_seen():
    model = unpad(bert())
    assert packs(model)
    layer = model.encoder.layer[0].attention
    plain, layer.output.dense = layer.output.dense, beside(layer.output.dense, Across(1.0))
    with pytest.raises(ValueError, match=LOOKS_ACROSS + '.*set_attn_implementation."sdpa". undoes unpad'):
        model(IDS, attention_mask=MASK)
    with pytest.raises(ValueError, match="expected padded input, got packed"):
        model(IDS[:1], position_ids=torch.arange(9)[None] % 5)
    close(run(model, sequences()).values, torch.cat([model(one[None])[0][0] for one in sequences()]))
    layer.output.dense = plain
    assert packs(model)


def test_settings_changed_afterwards_are_seen():
    model = unpad(roberta())
    assert enable_packing(model) == Packability(True, 2, 1)
    model.config.pad_token_id = 4
    model.embeddings.padding_idx = 4
    assert enable_packing(model) == Packability(True, 5, 4)
    assert packs(model)


def test_tables_of_another_size_and_other_precisions_go_on():
    model = unpad(bert())
    model.resize_token_embeddings(130, mean_resizing=False)
    assert packs(model)
    model.embeddings.position_embeddings = nn.Embedding(64, 32)
    model.embeddings.register_buffer("position_ids", torch.arange(64)[None])
    assert packs(model)
    assert packs(model.double())
    for narrow in (torch.bfloat16, torch.float16):
        rows, worked = rows_of(copy.deepcopy(model).to(narrow))
        close(rows.double(), eager(model), 5e-2)
        assert worked == {int(MASK.sum())}


@pytest.mark.parametrize("hidden", ["gate", "weights"])
def test_weights_that_are_zero_today_hide_nothing(hidden):
    """A table of positions and a gate as they often begin; training would open them after the proof."""
    if hidden == "gate":
        model = bert()
        layer = model.encoder.layer[0].attention.output
        layer.dense = beside(layer.dense, Across(0.0))
        with pytest.raises(ValueError, match=LOOKS_ACROSS):
            unpad(model)
    else:
        model = drawn(RobertaModel(RobertaConfig(**SMALL, pad_token_id=1)))
        nn.init.zeros_(model.embeddings.position_embeddings.weight)
        assert enable_packing(unpad(model)) == Packability(True, 2, 1)
        drawn(model)
        assert packs(model)


@pytest.mark.parametrize("mixes", [True, False])
def test_hooks_of_the_callers_own_see_the_padded_form(mixes):
    model, shapes = unpad(bert()), []

    def hook(part, args, out):
        shapes.append(tuple(out.shape))
        return out - out.mean(1, keepdim=True) if mixes else None

    handle = model.encoder.layer[0].register_forward_hook(hook)
    expected = eager(model)
    shapes.clear()
    rows, worked = rows_of(model)
    close(rows, expected)
    assert worked == {MASK.numel()} and shapes == [(*MASK.shape, 32)]
    alone = torch.cat([model(one[None])[0][0] for one in sequences()])
    close(run(model, sequences()).values, alone)
    handle.remove()
    assert packs(model)


def test_what_transformers_and_torch_hook_in_is_no_hindrance():
    model = unpad(bert())
    model(IDS, attention_mask=MASK, output_hidden_states=True)
    model.enable_input_require_grads()
    assert packs(model)
    model.encoder.layer[0].attention.output.dense = nn.utils.parametrizations.weight_norm(nn.Linear(32, 32))
    assert packs(model)
    with pytest.warns(FutureWarning, match="weight_norm. is deprecated"):
        model.encoder.layer[1].attention.output.dense = nn.utils.weight_norm(nn.Linear(32, 32))
    assert rows_of(model)[1] == {int(MASK.sum())}


# --- models that mix --------------------------------------------------------------------------------------------------


def quantized(model):
    return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("make", [bert, roberta, llama], ids=lambda make: make.__name__)
def test_activations_of_one_scale_are_refused_with_the_true_reason(make):
    """PyTorch's dynamic quantization takes its scale from the whole batch, so that no sequence is alone in it."""
    for use in (lambda: run(quantized(make()), sequences()), lambda: unpad(quantized(make()))):
        with pytest.raises(ValueError, match=DEPENDS):
            use()
    with pytest.raises(ValueError, match=DEPENDS):
        quantized(unpad(make()))(IDS, attention_mask=MASK)
    model = quantized(make())
    model.set_attn_implementation("sightline")
    with pytest.raises(ValueError, match=DEPENDS):
        model(input_ids=IDS[:1], position_ids=(2 if make is roberta else 0) + torch.arange(9)[None] % 5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_weights_quantized_alone_are_packed():
    model = torch.ao.quantization.quantize_dynamic(unpad(bert()), {nn.Linear}, dtype=torch.float16)
    assert packs(model)


class Normalized(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(32)

    def forward(self, x):
        return self.norm(x.transpose(1, 2)).transpose(1, 2)


def test_a_norm_over_the_batch_is_refused_in_training_alone():
    model = bert()
    layer = model.encoder.layer[0].output
    layer.dense = beside(layer.dense, Normalized())
    assert packs(unpad(model))
    model.train()
    for use in (lambda: model(IDS, attention_mask=MASK), lambda: run(model, sequences())):
        with pytest.raises(ValueError, match="in training this one normalizes over the whole batch; call model.eval"):
            use()
    assert packs(model.eval())


def test_a_model_that_draws_in_evaluation_is_refused_before_it_draws():
    model, random = bert(), torch.get_rng_state()
    model.encoder.layer[0].output.dropout = beside(nn.Identity(), Always())
    with pytest.raises(ValueError, match="BertModel: .* draws random numbers in evaluation .*bernoulli"):
        unpad(model)
    assert torch.equal(torch.get_rng_state(), random)


class Always(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x, 0.5, training=True)


# --- forwards that are set on a model, and what cannot be copied ------------------------------------------------------


def test_a_function_in_place_of_a_forward_is_refused():
    model = bert()
    old = model.encoder.layer[0].forward
    model.encoder.layer[0].forward = lambda *args, **kwargs: old(*args, **kwargs)
    with pytest.raises(ValueError, match="expected the forward of BertLayer itself, got a function set in its place"):
        run(model, sequences())


def test_weights_that_are_not_here_are_said():
    with pytest.raises(ValueError, match="BertModel: expected a model with its weights in memory, .*; load it whole"):
        unpad(bert().to("meta"))


def test_a_model_that_cannot_be_copied_is_refused():
    model = bert()
    model.lock = threading.Lock()
    with pytest.raises(ValueError, match="BertModel: expected a model that can be copied, .* cannot pickle"):
        unpad(model)


# --- what no few tokens show ------------------------------------------------------------------------------------------

ROTARY = {"rope_theta": 1e4, "original_max_position_embeddings": 16, "factor": 4.0}
STRETCHED = {
    "dynamic": {"rope_theta": 1e4, "rope_type": "dynamic", "factor": 4.0},
    "longrope": {**ROTARY, "rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4},
}


@torch.no_grad()
@pytest.mark.parametrize("kind", STRETCHED)
def test_rotary_positions_that_follow_the_longest_text(kind):
    def make():
        settings = {**SMALL, "max_position_embeddings": 16, "num_key_value_heads": 2}
        return drawn(LlamaModel(LlamaConfig(**settings, rope_parameters=dict(STRETCHED[kind]))))

    short, long = torch.arange(5, 14), torch.arange(5, 35)
    alone = torch.cat([make()(one[None])[0][0] for one in (short, long)])
    close(run(make(), [short, long]).values, alone)
    model, mask = make(), (torch.arange(30) < torch.tensor([[9], [30]])).long()
    arguments = {"input_ids": torch.stack([nn.functional.pad(short, (0, 21)), long]), "attention_mask": mask}
    model.set_attn_implementation("eager")
    expected = model(**arguments)[0][mask.bool()]
    close(unpad(make())(**arguments)[0][mask.bool()], expected)
    model, rows = make(), [short, short]
    model.set_attn_implementation("sightline")
    close(model(torch.cat(rows)[None], position_ids=torch.arange(18)[None] % 9)[0][0], alone[:9].repeat(2, 1))
    positions = torch.cat([torch.arange(9), torch.arange(30)])[None]
    with pytest.raises(ValueError, match="expected packed texts of at most 16 tokens, .* got 30"):
        model(torch.cat([short, long])[None], position_ids=positions)


# --- how strict it is -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_packability_does_not_depend_on_the_precision(dtype):
    for make in (bert, roberta, llama):
        model = make().to(dtype).base_model
        assert enable_packing(model) == PACKABILITY[make] and model.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_small_numbers_and_a_few_large_ones_hide_nothing(dtype):
    for small, large in ((1e-9, 1e-9), (1e-3, 1e3)):
        model = drawn(RobertaModel(RobertaConfig(**SMALL, pad_token_id=1))).to(dtype)
        norm = model.encoder.layer[-1].output.LayerNorm
        norm.weight.data.mul_(small)
        norm.bias.data.zero_()
        norm.bias.data[3] = large
        assert enable_packing(model) == Packability(True, 2, 1)


def test_a_model_of_tiny_weights_throughout():
    model = BertModel(BertConfig(**SMALL, initializer_range=1e-8)).eval()
    assert packs(unpad(model))
