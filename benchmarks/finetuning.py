"""Packed against padded batches of random Hugging Face models of known sizes; needs no data and no weights.

`embed.py` takes the training step from here, `gpu.py` that and the encoder's forward. A step is forward, backward and
AdamW on the same 32 sentences, once padded, once packed as transformers' own collator packs them: same loss, same
gradients, which is checked first. Dropout is off, so that it can be. Only tokens of sentences count, padding does not.
Beside them stand padded batches of the same sentences in order of length, as `Trainer` makes with `group_by_length`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from statistics import median
from typing import Any

import torch
from side_by_side import against, agree, ewt, show, summary, take_turns
from torch import Tensor, nn
from transformers import BertConfig, BertForTokenClassification, BertModel
from transformers.utils import is_flash_attn_2_available

from sightline.huggingface import run
from sightline.sequences import Sequences

ROWS, LABELS, VOCABULARY = 32, 17, 30_522
PLAIN = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "vocab_size": VOCABULARY}
GROUPED = "padded, grouped by length"
SMALL = {"hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8, "intermediate_size": 2048}
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
TARGET = 2.0  # times as fast as padded batches under sdpa, on a CPU
LIMITS = {"cpu": 1e-5, "cuda": 2e-2}  # largest error of loss and gradients over the largest; a GPU computes in bfloat16


# --- batches --------------------------------------------------------------------------------------------------------


def sentences(data: Path, batches: int) -> tuple[str, list[Tensor]]:
    """Lengths of batches of 32 sentences, drawn with a seed: of EWT, or if it is absent, of a like distribution."""
    random = torch.Generator().manual_seed(0)
    if (data / "ud-english-ewt").exists():
        lengths = ewt(data).train.lengths
        chosen = lengths[torch.randperm(len(lengths), generator=random)[: batches * ROWS]]
        return "EWT", list(chosen.split(ROWS))
    drawn = torch.empty(batches * ROWS).log_normal_(2.45, 0.85, generator=random)
    return "lengths drawn like EWT's", list(drawn.long().clamp(1, 160).split(ROWS))


def filled(lengths: Tensor, random: torch.Generator) -> tuple[Sequences, Sequences]:
    """Random tokens and labels for sequences of these lengths."""
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    tokens = torch.randint(1, VOCABULARY, (int(offsets[-1]),), generator=random)
    ids = Sequences(tokens, offsets)
    return ids, ids.with_values(tokens % LABELS)


def padded(ids: Sequences, labels: Sequences | None, device: str) -> dict[str, Any]:
    real = torch.arange(int(ids.lengths.max())) < ids.lengths[:, None]
    batch = {"input_ids": ids.to_padded()[0], "attention_mask": real.long()}
    if labels is not None:
        batch["labels"] = labels.to_padded(-100)[0]
    return {name: t.to(device) for name, t in batch.items()}


def packed(ids: Sequences, labels: Sequences | None, device: str) -> dict[str, Any]:
    """Packs as `DataCollatorWithFlattening(return_flash_attn_kwargs=True)`, shortest first, but keeps first labels."""
    order = ids.lengths.argsort(stable=True)
    ids = ids[order]
    batch = {"input_ids": ids.values[None], "position_ids": ids.positions[None]}
    batch["cu_seq_lens_q"] = batch["cu_seq_lens_k"] = ids.offsets.int()
    if labels is not None:
        batch["labels"] = labels[order].values[None]
    batch = {name: t.to(device) for name, t in batch.items()}
    return {**batch, "max_length_q": int(ids.lengths.max()), "max_length_k": int(ids.lengths.max())}


def implementations(device: str) -> dict[str, tuple[str, Callable]]:
    """For each side, what transformers' attention is set to, and how its batches are made."""
    sides = {"sightline": ("sightline", packed), "padded": ("sdpa", padded)}
    if device == "cuda":
        sides["eager"] = ("eager", padded)
        if is_flash_attn_2_available():
            sides["flash_attention_2"] = ("flash_attention_2", packed)
    return sides


# --- a training step ------------------------------------------------------------------------------------------------


class Trained:
    """One side: a model, its batches, and its optimizer."""

    def __init__(self, model: nn.Module, implementation: str, batches: list[dict], device: str):
        self.model, self.batches, self.device = deepcopy(model).to(device), batches, device
        self.model.set_attn_implementation(implementation)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 1e-5, fused=True)

    def gradients(self, batch: dict) -> tuple[Tensor, dict[str, Tensor]]:
        self.optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16) if self.device == "cuda" else nullcontext():
            loss = self.model(**batch).loss
        loss.backward()
        return loss.detach(), {n: p.grad for n, p in self.model.named_parameters() if p.grad is not None}

    def turn(self) -> None:
        for batch in self.batches:
            self.gradients(batch)
            self.optimizer.step()


def steps(
    lengths: list[Tensor], device: str, sizes: dict[str, int] = SMALL
) -> tuple[dict[str, Callable[[], None]], float]:
    """Each side as a call that takes a step on every batch, and their largest error; stops where they do not agree."""
    torch.manual_seed(0)
    longest = max(int(each.max()) for each in lengths)
    model = BertForTokenClassification(
        BertConfig(**PLAIN, **sizes, num_labels=LABELS, max_position_embeddings=max(512, longest))
    ).train()
    ids, labels = filled(torch.cat(lengths), torch.Generator().manual_seed(1))
    as_drawn = list(torch.arange(len(ids)).split([len(each) for each in lengths]))
    orders = {name: as_drawn for name in implementations(device)}
    if len(lengths) > 1:  # else there is nothing to group
        orders[GROUPED] = list(ids.lengths.argsort(descending=True, stable=True).split(len(lengths[0])))
    runs, worst = {}, 0.0
    for name, order in orders.items():
        implementation, make = implementations(device)[name.partition(",")[0]]
        pairs = [(ids[batch], labels[batch]) for batch in order]
        runs[name] = Trained(model, implementation, [make(*pair, device) for pair in pairs], device)
        error = off(runs[name], Trained(model, "eager", [padded(*pairs[0], "cpu")], "cpu"))
        worst = max(worst, agree(f"training step, {name}, loss and gradients", error, LIMITS[device]))
    return {name: side.turn for name, side in runs.items()}, worst


def off(side: Trained, definition: Trained) -> float:
    """The largest relative error of a side's loss and gradients on its first batch."""
    (loss, grads), (right, right_grads) = (one.gradients(one.batches[0]) for one in (side, definition))
    largest = max(float(grad.abs().max()) for grad in right_grads.values())
    error = max(float((grads[name].cpu() - grad).abs().max()) for name, grad in right_grads.items())
    return max(float((loss.cpu() - right).abs() / right), error / largest)


def measure(data: Path, batches: int, repeats: int, sizes: dict[str, int] = SMALL) -> dict[str, Any]:
    """Useful tokens/s of training steps on real lengths, on the CPU."""
    name, lengths = sentences(data, batches)
    turns, error = steps(lengths, "cpu", sizes)
    tokens = sum(int(each.sum()) for each in lengths)
    seconds = take_turns(turns, repeats)
    ours = median(seconds["sightline"])
    return {
        "lengths": name,
        "model": sizes,
        "sentences_in_a_batch": ROWS,
        "batches_in_a_turn": batches,
        "useful_tokens": tokens,
        "padded_tokens": sum(int(each.max()) * len(each) for each in lengths),
        "error": error,
        "tokens_per_second": {side: summary([tokens / s for s in each]) for side, each in seconds.items()},
        "times_ours": {side: median(each) / ours for side, each in seconds.items()},
        "target": TARGET,
    }


def show_steps(row: dict[str, Any]) -> None:
    share = row["useful_tokens"] / row["padded_tokens"]
    show(
        f"training steps of a BERT of {row['model']['num_hidden_layers']} layers of width "
        f"{row['model']['hidden_size']}, {row['lengths']}, {ROWS} sentences a step, "
        f"{share:.0%} of the padded rows are tokens",
        ["", "useful tokens/s", "packed is faster"],
        [
            [
                name,
                f"{speed['median']:,.0f}",
                ""
                if name == "sightline"
                else against(row["times_ours"][name], row["target"] if name == "padded" else None),
            ]
            for name, speed in row["tokens_per_second"].items()
        ],
    )


# --- an encoder's forward on a GPU ----------------------------------------------------------------------------------


def forwards(lengths: Tensor, device: str) -> dict[str, Callable[[], Tensor]]:
    """One batch through a bfloat16 model of MiniLM's sizes: each side, checked first, gives rows [T, E]."""
    torch.manual_seed(0)
    config = BertConfig(**PLAIN, **MINILM, max_position_embeddings=max(512, int(lengths.max())))
    model = BertModel(config, add_pooling_layer=False).eval()
    ids, _ = filled(lengths.sort().values, torch.Generator().manual_seed(1))
    real = (torch.arange(int(ids.lengths.max())) < ids.lengths[:, None]).to(device)

    def side(implementation: str, make: Callable, dtype: torch.dtype = torch.bfloat16):
        own, batch = deepcopy(model).to(device, dtype), make(ids, None, device)
        own.set_attn_implementation(implementation)

        @torch.no_grad()
        def call() -> Tensor:
            if implementation == "sightline":
                return run(own, ids, tokens=len(ids.values)).values
            hidden = own(**batch).last_hidden_state
            return hidden[real] if make is padded else hidden[0]

        return call

    exact = side("sdpa", padded, torch.float64)()
    limit = 2 * float((side("eager", padded)() - exact).abs().max()) + 2**-8 * float(exact.abs().max())
    calls = {name: side(*choice) for name, choice in implementations(device).items()}
    for name, call in calls.items():
        agree(f"encoder in bfloat16, {name}", float((call() - exact).abs().max()), limit)
    return calls
