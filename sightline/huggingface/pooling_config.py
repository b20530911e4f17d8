"""The pooling that a model's own folder configures: from the rows of a text to one vector, as its authors meant.

A folder written by sentence-transformers lists in `modules.json` the modules after the model, each with a small
configuration:

    modules.json                        Transformer, Pooling, then Dense, LayerNorm and Normalize in any order
    sentence_bert_config.json           max_seq_length, do_lower_case
    1_Pooling/config.json               the modes; the vectors of several are concatenated
    2_Dense/config.json, .safetensors   a linear map and its activation
    config_sentence_transformers.json   prompts, and which of them precedes every text

Every setting that changes a vector is followed or refused. A model without `modules.json` is pooled by the mean.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sightline.huggingface.model_files import model_file, model_json, one_line
from sightline.huggingface.pooling import MODES, pool
from sightline.sequences import Sequences

LEGACY = {  # the switches of older configurations, in the order in which their vectors are concatenated
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
TRANSFORMER_CONFIGS = [  # the names of the first module's configuration, in several versions
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
]
# Settings of the first module: the only values that are followed (of "text" in modality_config too), and harmless ones.
USUAL = {"transformer_task": "feature-extraction", "module_output_name": "token_embeddings"}
USUAL_TEXT = {"method": "forward", "method_output_name": "last_hidden_state"}
HARMLESS = {"unpad_inputs", "query_length", "document_length", "modality_config", *USUAL}


class Normalize(nn.Module):
    """Each vector at length 1; zeros stay."""

    def forward(self, vectors: Tensor) -> Tensor:
        return nn.functional.normalize(vectors, dim=-1)


@dataclass
class PoolingConfig:
    """The steps before and after a model that give vectors of texts; `notes` are for the user."""

    modes: tuple[str, ...] = ()  # none: the folder does not say
    after: tuple[nn.Module, ...] = ()
    longest: int | None = None  # tokens, where the folder says so
    lower: bool = False
    prompt: str = ""
    prompt_counts: bool = True  # whether the rows of the prompt are pooled too
    tokenizer: dict[str, Any] | None = None  # options for loading the tokenizer
    subfolder: str = ""
    notes: tuple[str, ...] = ()

    def vectors(self, hidden: Sequences, skip: int = 0) -> Tensor:
        """One vector for each sequence of hidden rows [T, E]; the first `skip` rows are left out."""
        vectors = pool(hidden, self.modes, skip)
        for module in self.after:
            vectors = module(vectors)
        return vectors

    def with_options(self, source: str, pooling: str | Sequence[str] | None, normalize: bool | None) -> PoolingConfig:
        """The caller's options in place of the folder's, and the mean where neither says how to pool.

        Raises: ValueError for an unknown mode.
        """
        modes, after, notes = self.modes, self.after, self.notes
        if pooling is not None:
            modes = _checked((pooling,) if isinstance(pooling, str) else tuple(pooling), "pooling")
            if len(modes) != len(self.modes) and any(not isinstance(module, Normalize) for module in after):
                raise ValueError(
                    f"pooling: expected {len(self.modes)} of the modes, as the layers after it in {source} are made "
                    f"for, got {len(modes)}; choose as many"
                )
        elif not modes:
            modes = ("mean",)
            notes += (f"{source}: nothing here says how to pool, so the mean is taken; --pooling says otherwise",)
        if normalize is not None:
            after = tuple(module for module in after if not isinstance(module, Normalize))
            after += (Normalize(),) * normalize
        return replace(self, modes=modes, after=after, notes=notes)


def read_pooling_config(model: str) -> PoolingConfig:
    """The configuration in the folder of a model, or in its repository on the hub.

    Raises: ValueError for a setting that cannot be followed, or a file that cannot be read.
    """
    modules = model_json(model, "modules.json")
    if modules is None:
        return PoolingConfig()
    try:
        return _read(model, modules)
    except (AttributeError, TypeError, KeyError, IndexError, OverflowError) as error:  # a value of another kind
        raise ValueError(
            f"{model}: expected modules.json and what it names as sentence-transformers writes them, got "
            f"{one_line(error)}; save the model anew"
        ) from None


def _read(model: str, modules: list[dict]) -> PoolingConfig:
    where = f"{model}/modules.json"
    kinds = [str(module.get("type", "")) if isinstance(module, dict) else "" for module in modules]
    names = [kind.rsplit(".", 1)[-1] if kind.startswith("sentence_transformers.") else kind for kind in kinds]
    if names[:2] != ["Transformer", "Pooling"]:
        raise ValueError(
            f"{where}: expected a Transformer, then a Pooling, got {', '.join(names[:2]) or 'nothing'}; such a model "
            "has no vectors that are pooled from its rows, use sentence-transformers for it"
        )
    paths = [str(module.get("path", "")) for module in modules]
    first = _read_transformer(model, paths[0])
    config = model_json(model, f"{paths[1]}/config.json", needed=True)
    modes, prompt_counts = _read_pooling(config, f"{model}/{paths[1]}/config.json")
    after = [_read_module(model, name, path) for name, path in zip(names[2:], paths[2:], strict=True)]
    prompt, notes = _read_prompt(model)
    return PoolingConfig(
        modes, tuple(after), prompt=prompt, prompt_counts=prompt_counts, subfolder=paths[0], notes=notes, **first
    )


def _read_transformer(model: str, path: str) -> dict[str, Any]:
    configs = ((name, model_json(model, f"{path}/{name}".lstrip("/"))) for name in TRANSFORMER_CONFIGS)
    name, config = next(
        ((name, config) for name, config in configs if config is not None), (TRANSFORMER_CONFIGS[0], {})
    )
    config = dict(config)
    longest, lower = config.pop("max_seq_length", None), bool(config.pop("do_lower_case", False))
    if longest is not None and (type(longest) is not int or longest < 1):
        raise ValueError(
            f"{model}/{name}: expected max_seq_length as a number of tokens, 1 or more, got {longest!r}; correct it"
        )
    tokenizer = config.pop("processor_kwargs", None) or config.pop("tokenizer_args", None)
    text = config.get("modality_config", {}).get("text", {})
    usual = all(config.get(key, value) == value for key, value in USUAL.items())
    usual = usual and all(text.get(key, value) == value for key, value in USUAL_TEXT.items())
    odd = [key for key, value in config.items() if key not in HARMLESS and value not in (None, {}, False)]
    if odd or not usual:
        raise ValueError(
            f"{model}/{name}: expected a model whose last rows are pooled, got {', '.join(odd) or json.dumps(config)}, "
            "which is not followed here; take that out if it changes no vector, or use sentence-transformers"
        )
    return {"longest": longest, "lower": lower, "tokenizer": tokenizer}


def _read_pooling(config: dict[str, Any], where: str) -> tuple[tuple[str, ...], bool]:
    modes = config.get("pooling_mode")
    if modes is None:
        unknown = [key for key in config if key.startswith("pooling_mode_") and key not in LEGACY and config[key]]
        modes = [mode for key, mode in LEGACY.items() if config.get(key)] + unknown or ["mean"]
    modes = _checked((modes,) if isinstance(modes, str) else tuple(modes), where)
    return modes, bool(config.get("include_prompt", True))


def _checked(modes: tuple[str, ...], where: str) -> tuple[str, ...]:
    unknown = [str(mode) for mode in modes if mode not in MODES]
    if unknown or not modes:
        raise ValueError(
            f"{where}: expected pooling by one or more of {', '.join(MODES)}, got {', '.join(unknown) or 'none'}; "
            "choose of these"
        )
    return modes


def _read_module(model: str, name: str, path: str) -> nn.Module:
    where = f"{model}/{path}"
    config = model_json(model, f"{path}/config.json") or {}
    names = {config.get(key) or "sentence_embedding" for key in ("module_input_name", "module_output_name")}
    if name not in ("Dense", "LayerNorm", "Normalize", "Dropout") or names != {"sentence_embedding"}:
        on = "" if names == {"sentence_embedding"} else " on " + ", ".join(sorted(names))
        raise ValueError(
            f"{where}: expected Dense, LayerNorm, Normalize or Dropout on the pooled vector, got "
            f"{name or 'a module without type'}{on}; use sentence-transformers for it"
        )
    if name in ("Normalize", "Dropout"):
        return Normalize() if name == "Normalize" else nn.Identity()
    try:
        activation = nn.Identity() if name == "LayerNorm" else _activation(config, where)
        with torch.device("meta"):  # a wrong size takes no memory
            if name == "LayerNorm":
                layer, prefix = nn.LayerNorm(config["dimension"]), "norm."
            else:
                layer = nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True))
                prefix = "linear."
        weights = load_file(cast(Path, model_file(model, f"{path}/model.safetensors", needed=True)))
        if whole := [key for key, tensor in weights.items() if not tensor.is_floating_point()]:
            raise TypeError(f"{weights[whole[0]].dtype} in {whole[0]}")
        tensors = {key.removeprefix(prefix): tensor.float() for key, tensor in weights.items()}
        layer.load_state_dict(tensors, assign=True)
    except (KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"{where}: expected the sizes and weights of a {name}, got {one_line(error)}; save the model anew"
        ) from None
    return nn.Sequential(layer, activation).requires_grad_(False)


def _activation(config: dict[str, Any], where: str) -> nn.Module:
    """An activation of torch.nn by its full name; no other code is imported."""
    name = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    kind = getattr(nn, name.rsplit(".", 1)[-1], None) if name.startswith("torch.nn.") else None
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)) or config.get("use_residual"):
        raise ValueError(
            f"{where}: expected a Dense with an activation of torch.nn and no residual, got "
            f"{'a residual' if config.get('use_residual') else name}; use sentence-transformers for it"
        )
    return kind()


def _read_prompt(model: str) -> tuple[str, tuple[str, ...]]:
    config = model_json(model, "config_sentence_transformers.json") or {}
    where = f"{model}/config_sentence_transformers.json"
    if config.get("model_type", "SentenceTransformer") != "SentenceTransformer":
        raise ValueError(
            f"{where}: expected a SentenceTransformer, got a {config['model_type']}; it gives no vector for a text"
        )
    prompts = {name: text for name, text in (config.get("prompts") or {}).items() if text}
    default = config.get("default_prompt_name")
    if default is None:
        names = ", ".join(prompts)
        note = f"{model}: no prompt is put before the texts; the model knows {names}, write one into each text"
        return "", (note,) if prompts else ()
    if default not in (config.get("prompts") or {}):
        raise ValueError(
            f"{where}: expected a prompt {default!r}, as default_prompt_name says, got {', '.join(prompts) or 'none'}; "
            "add it"
        )
    prompt = prompts.get(default, "")
    if not isinstance(prompt, str):
        raise TypeError(f"{prompt!r} as the prompt {default!r}")
    return prompt, ()
