"""Training by the Hugging Face `Trainer` on packed batches must give the padded run's loss, step by step.

What a user writes is two words more than without, the collator and the name of the attention; nothing else changes, and
there is no padding token any more:

    import sightline.huggingface
    from transformers import AutoModelForCausalLM, DataCollatorWithFlattening, Trainer, TrainingArguments

    model = AutoModelForCausalLM.from_pretrained(name, attn_implementation="sightline")
    trainer = Trainer(
        model,
        TrainingArguments("runs/packed", per_device_train_batch_size=32),
        train_dataset=dataset,  # rows with input_ids, and labels where they are not the input itself
        data_collator=DataCollatorWithFlattening(return_flash_attn_kwargs=True),
    )
    trainer.train()

Tolerance: the losses of twelve steps of AdamW, to 1e-5 relative; and all weights after twelve steps of plain descent.
(Not of AdamW: it makes a full step of a gradient that is zero but for rounding, as that of a key's bias is.)
"""

from dataclasses import fields

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DataCollatorWithFlattening,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Trainer,
    TrainingArguments,
    set_seed,
)

from sightline.attention import watching
from sightline.huggingface import unpad

CLOSE = 1e-5  # relative
LENGTHS = (17, 3, 1, 29, 5, 11, 2, 23, 7, 13, 31, 1, 4, 19, 8, 2, 37, 6, 10, 3, 41, 5, 9, 16)
SPREAD = {"initializer_range": 0.3}  # of the first weights; so wide that attention has a say in the loss
SIZE = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, **SPREAD}
DECODER = {**SIZE, "intermediate_size": 48, "num_key_value_heads": 2, "use_cache": False}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**DECODER)),
    "mistral, window": lambda: MistralForCausalLM(MistralConfig(**DECODER, sliding_window=5)),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(
            **SPREAD,
            vocab_size=61,
            n_embd=32,
            n_layer=2,
            n_head=4,
            attn_pdrop=0.0,
            embd_pdrop=0.0,
            resid_pdrop=0.0,
            use_cache=False,
        )
    ),
    "bert, masked words": lambda: BertForMaskedLM(
        BertConfig(**SIZE, intermediate_size=48, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    ),
}


def rows(name: str) -> list[dict[str, list[int]]]:
    """Texts of unequal lengths; of the masked ones, every third token is to be found behind token 1."""
    random = torch.Generator().manual_seed(0)
    texts = [torch.randint(2, 61, (n,), generator=random).tolist() for n in LENGTHS]
    if name != "bert, masked words":
        return [{"input_ids": text, "labels": text} for text in texts]
    hidden = [[i % 3 == 2 for i in range(len(text))] for text in texts]
    return [
        {
            "input_ids": [1 if h else token for h, token in zip(hide, text, strict=True)],
            "labels": [token if h else -100 for h, token in zip(hide, text, strict=True)],
        }
        for hide, text in zip(hidden, texts, strict=True)
    ]


def padded(features: list[dict]) -> dict[str, torch.Tensor]:
    """The usual batch, without the first label, as the flattening collator: nothing before it could predict it."""
    longest = max(len(f["input_ids"]) for f in features)

    def filled(rows, value):
        return torch.tensor([row + [value] * (longest - len(row)) for row in rows])

    return {
        "input_ids": filled([f["input_ids"] for f in features], 0),
        "attention_mask": filled([[1] * len(f["input_ids"]) for f in features], 0),
        "labels": filled([[-100] + f["labels"][1:] for f in features], -100),
    }


class Recorded(Trainer):
    """The Trainer; it keeps the loss of every call of the model."""

    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        self.__dict__.setdefault("losses", []).append(float(loss))
        return loss


def trained(folder, name: str, implementation: str, collator, prepare=lambda model: model, **arguments):
    """(losses, weights, rows that each attention call of sightline worked on) of two epochs."""
    set_seed(0)
    model = prepare(MODELS[name]())
    if prepare is not unpad:
        model.set_attn_implementation(implementation)
    settings = TrainingArguments(
        str(folder),
        use_cpu=True,
        seed=3,
        num_train_epochs=2,
        per_device_train_batch_size=4,
        learning_rate=1e-3,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **arguments,
    )
    trainer = Recorded(model, settings, train_dataset=rows(name), data_collator=collator)
    worked = []
    with watching(lambda request, _: worked.append(len(request.q))):
        trainer.train()
    return torch.tensor(trainer.losses, dtype=torch.float64), dict(model.named_parameters()), worked


def agree(actual, expected) -> None:
    (losses, _, worked), (eager, _, _) = actual, expected
    assert worked and losses.shape == eager.shape == (12,)
    assert ((losses - eager).abs() / eager).max() <= CLOSE


def flattening(**options):
    return DataCollatorWithFlattening(return_flash_attn_kwargs=True, **options)


@pytest.mark.parametrize("name", MODELS)
def test_packed_batches_give_the_padded_runs_loss(tmp_path, name):
    expected = trained(tmp_path, name, "eager", padded)
    agree(trained(tmp_path, name, "sightline", flattening()), expected)


@pytest.mark.parametrize("name", MODELS)
def test_every_weight_moves_alike(tmp_path, name):
    options = {"optim": "sgd", "max_grad_norm": 0.0}
    expected = trained(tmp_path, name, "eager", padded, **options)
    actual = trained(tmp_path, name, "sightline", flattening(), **options)
    agree(actual, expected)
    set_seed(0)
    start = dict(MODELS[name]().named_parameters())
    for part, weight in expected[1].items():
        step = (weight - start[part]).abs().max()
        assert (actual[1][part] - weight).abs().max() <= 1e-3 * step + 1e-7, part
    assert sum(bool((weight != start[part]).any()) for part, weight in expected[1].items()) > 15


@pytest.mark.parametrize("name", ["llama", "bert, masked words"])
def test_accumulated_steps_too(tmp_path, name):
    options = {"gradient_accumulation_steps": 3}
    expected = trained(tmp_path, name, "eager", padded, **options)
    agree(trained(tmp_path, name, "sightline", flattening(), **options), expected)


@pytest.mark.parametrize("name", ["llama", "bert, masked words"])
def test_positions_alone_say_where_a_text_begins(tmp_path, name):
    """Without the offsets, sightline finds them in position_ids."""
    expected = trained(tmp_path, name, "eager", padded)
    agree(trained(tmp_path, name, "sightline", DataCollatorWithFlattening()), expected)


@pytest.mark.parametrize("name", MODELS)
def test_padded_batches_may_stay(tmp_path, name):
    """Who keeps the padding collator gets the same loss, too; after `unpad`, without the padding's work."""
    expected = trained(tmp_path, name, "eager", padded)
    agree(trained(tmp_path, name, "sightline", padded), expected)
    unpadded = trained(tmp_path, name, "sightline", padded, unpad)
    agree(unpadded, expected)
    assert sum(unpadded[2][-24:]) == 2 * 2 * sum(LENGTHS)  # of two layers and epochs; before them, it was tried


def test_layers_may_be_computed_twice_to_save_memory(tmp_path):
    names = {field.name for field in fields(TrainingArguments)}
    options = {("activation" if "activation_checkpointing" in names else "gradient") + "_checkpointing": True}
    expected = trained(tmp_path, "llama", "eager", padded)
    agree(trained(tmp_path, "llama", "sightline", flattening(), **options), expected)
    agree(trained(tmp_path, "llama", "sightline", padded, unpad, **options), expected)


def test_the_comparison_would_see_a_leak(tmp_path):
    """Under sdpa, packed texts see each other, without a word of warning: that is what the others are safe from."""
    expected, *_ = trained(tmp_path, "bert, masked words", "eager", padded)
    leaking, *_ = trained(tmp_path, "bert, masked words", "sdpa", flattening())
    assert ((leaking - expected).abs() / expected).max() > 100 * CLOSE
