"""The first use of a model, from eight threads at once: each gets its own rows."""

import os
import signal
import threading

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    DataCollatorWithFlattening,
    RobertaConfig,
    RobertaModel,
    Trainer,
    TrainingArguments,
)

from sightline.attention import watching
from sightline.huggingface import packability, run, unpad

TEXTS = [[5, 6, 7], [8, 9], [10, 11, 12, 13, 14]]
TINY = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
}


def tiny(seed: int):
    torch.manual_seed(seed)
    model = RobertaModel(RobertaConfig(**TINY, pad_token_id=1)) if seed % 2 else BertModel(BertConfig(**TINY))
    for weight in model.parameters():
        weight.data.normal_(0, 0.3) if weight.dim() > 1 else weight.data.uniform_(0.5, 1.5)
    return model.eval()


def padded() -> dict[str, torch.Tensor]:
    mask = (torch.arange(5) < torch.tensor([[3], [2], [5]])).long()
    ids = torch.ones(3, 5, dtype=torch.int64)
    ids[mask.bool()] = torch.tensor(sum(TEXTS, []))
    return {"input_ids": ids, "attention_mask": mask}


def packed(model) -> torch.Tensor:
    first = 2 if isinstance(model, RobertaModel) else 0
    positions = torch.cat([first + torch.arange(len(text)) for text in TEXTS])[None]
    return model(torch.tensor(sum(TEXTS, []))[None], position_ids=positions)[0][0]


USES = [
    lambda model: run(model, TEXTS).values,
    lambda model: unpad(model)(**padded())[0][padded()["attention_mask"].bool()],
    lambda model: model(**padded())[0][padded()["attention_mask"].bool()],  # it may or may not be unpadded by now
    packed,
]


def first_uses(models: int) -> list:
    """What went wrong in eight first uses at once of each of so many models."""
    wrong = []
    for seed in range(models):
        model = tiny(seed)
        model.set_attn_implementation("eager")
        with torch.no_grad():
            expected = torch.cat([model(torch.tensor([text]))[0][0] for text in TEXTS])
        model.set_attn_implementation("sightline")
        gate = threading.Barrier(8)

        def use(i, model=model, expected=expected, gate=gate):
            try:
                gate.wait()
                with torch.inference_mode(i < 4), torch.set_grad_enabled(i == 7):
                    rows = USES[i % 4](model)
                if rows.shape != expected.shape or (rows - expected).abs().max() > 1e-5:
                    wrong.append((i, rows))
            except Exception as error:
                wrong.append((i, error))

        threads = [threading.Thread(target=use, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return wrong


def test_eight_threads_at_once():
    assert first_uses(25) == []


@pytest.mark.long
def test_a_thousand_first_uses():
    assert first_uses(125) == []


def test_a_trial_beside_threads_that_are_inside_the_model():
    """The model's attention, modes and parts stay as they are while another thread is in it."""
    model, wrong, ready, done = tiny(1), [], threading.Barrier(4), threading.Event()
    with torch.no_grad():
        expected = model(**padded())[0]

    def within():
        ready.wait()
        while not done.is_set():
            with torch.no_grad():
                if (model(**padded())[0] - expected)[padded()["attention_mask"].bool()].abs().max() > 1e-5:
                    wrong.append(1)

    threads = [threading.Thread(target=within) for _ in range(3)]
    for thread in threads:
        thread.start()
    ready.wait()
    for _ in range(20):
        vars(model).pop("_sightline_proof", None)  # as if it were the first use
        run(model, TEXTS)
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_child_forked_during_a_trial_does_not_wait_for_it():
    with packability._trials.lock:  # as by a thread that is not there in the child
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            run(tiny(0), TEXTS)
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_trainer_in_bfloat16_on_packed_batches(tmp_path):
    """Its autocast is on when the model is first used; each step's loss is near that of float32."""
    draw = torch.Generator().manual_seed(0)
    lengths = (17, 3, 1, 11, 5, 9, 2, 13)
    texts = [torch.randint(5, 40, (n,), generator=draw).tolist() for n in lengths]
    losses = {}
    for narrow in (True, False):
        torch.manual_seed(0)
        config = BertConfig(
            **{**TINY, "max_position_embeddings": 32}, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
        )
        model = BertForMaskedLM(config)
        model.set_attn_implementation("sightline")
        options = {"per_device_train_batch_size": 4, "max_steps": 4, "report_to": "none", "disable_tqdm": True}
        options |= {"save_strategy": "no", "use_cpu": True, "logging_steps": 1, "dataloader_pin_memory": False}
        trainer = Trainer(
            model,
            TrainingArguments(str(tmp_path), bf16=narrow, **options),
            train_dataset=[{"input_ids": text, "labels": text} for text in texts],
            data_collator=DataCollatorWithFlattening(return_flash_attn_kwargs=True),
        )
        worked = []
        with watching(lambda request, _, worked=worked: worked.append(len(request.offsets) - 1)):
            trainer.train()
        assert set(worked) == {4}
        losses[narrow] = torch.tensor([step["loss"] for step in trainer.state.log_history if "loss" in step])
    assert len(losses[True]) == 4
    torch.testing.assert_close(losses[True], losses[False], rtol=2e-2, atol=0)
