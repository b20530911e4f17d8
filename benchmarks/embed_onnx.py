"""ONNX Runtime, a rival of `embed.py`: the graph that its own optimizer makes of the model, with attention,
normalisation and activation fused."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import embed_rivals as rivals
import torch
from side_by_side import extra, stop
from torch import Tensor, nn
from transformers import AutoModel

with extra("rivals"):
    import onnx  # noqa: F401  the exporter and the optimizer need both
    import onnxruntime
    import onnxscript  # noqa: F401
    from onnxruntime.transformers import optimizer


def onnx_runtime(texts: list[str], threads: int) -> rivals.Vectors:
    """ONNX Runtime on its fused BERT graph, fed batches sorted by length."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        graph = _fused(Path(folder))
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def one(batch: dict[str, Tensor]) -> Tensor:
        feed = {name: t.numpy() for name, t in batch.items()}
        feed["token_type_ids"] = torch.zeros_like(batch["input_ids"]).numpy()
        return rivals.pooled(torch.from_numpy(session.run(None, feed)[0]), batch["attention_mask"])

    return rivals.in_batches(texts, True, one)


class _Hidden(nn.Module):
    """The model with its inputs in a row and one output, as an export wants it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        return self.model(input_ids, attention_mask, token_type_ids).last_hidden_state


def _fused(folder: Path) -> bytes:
    """The model as ONNX Runtime's optimizer fuses it; it finds attention only in the traced graph of the eager one."""
    model = AutoModel.from_pretrained(rivals.MODEL, dtype=torch.float32, attn_implementation="eager")
    ids, mask = torch.full((2, 7), 999), torch.ones(2, 7, dtype=torch.int64)
    mask[1, 4:] = 0
    names = ["input_ids", "attention_mask", "token_type_ids"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter that traces; what it makes is checked against float64
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
