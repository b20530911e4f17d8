"""Turns the rows of a text into one vector as the model's own folder says, so that vectors are those its makers meant.

A folder written by sentence-transformers says in `modules.json` what follows the model, and in a few small files how:

    modules.json                        Transformer, Pooling, then Dense, LayerNorm and Normalize in any order
    sentence_bert_config.json           max_seq_length, do_lower_case
    1_Pooling/config.json               the modes; several are laid side by side
    2_Dense/config.json, .safetensors   a linear map and its activation
    config_sentence_transformers.json   prompts, and which of them stands before every text

All that changes a vector is followed or refused with a sentence. A model without `modules.json` is pooled by the mean.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sightline.huggingface.model_files import line, model_file, model_json
from sightline.huggingface.pooling import MODES, pool
from sightline.sequences import Sequences

LEGACY = {  # the switches of older configurations, in the order in which their vectors are laid side by side
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
READ_CONFIGS = [  # where older versions put what the first module reads
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
]
# What a sentence_bert_config.json may say without a vector being another for it.
HARMLESS = {
    "unpad_inputs",
    "query_length",
    "document_length",
    "modality_config",
    "module_output_name",
    "transformer_task",
}


class Normalize(nn.Module):
    """Each vector at length 1; zeros stay."""

    def forward(self, vectors: Tensor) -> Tensor:
        return nn.functional.normalize(vectors, dim=-1)


@dataclass
class Recipe:
    """What is done before and after a model, to have vectors of texts; `notes` is what a user should be told of it."""

    modes: tuple[str, ...] = ()  # none: nobody says
    after: tuple[nn.Module, ...] = ()
    longest: int | None = None  # tokens, where the folder says so
    lower: bool = False
    prompt: str = ""
    prompt_counts: bool = True  # whether the rows of the prompt are pooled too
    tokenizer: dict[str, Any] | None = None  # what the tokenizer is loaded with
    subfolder: str = ""
    notes: tuple[str, ...] = ()

    def head(self, hidden: Sequences, skip: int = 0) -> Tensor:
        vectors = pool(hidden, self.modes, skip)
        for module in self.after:
            vectors = module(vectors)
        return vectors


def chosen(recipe: Recipe, source: str, pooling: str | Sequence[str] | None, normalize: bool | None) -> Recipe:
    """The recipe with what the caller says in place of what the folder says, and the mean where neither says how to pool.

    Raises: ValueError for a mode that is none.
    """
    modes, after, notes = recipe.modes, recipe.after, recipe.notes
    if pooling is not None:
        modes = _checked((pooling,) if isinstance(pooling, str) else tuple(pooling), "pooling")
        if len(modes) != len(recipe.modes) and any(not isinstance(module, Normalize) for module in after):
            raise ValueError(
                f"pooling: expected {len(recipe.modes)} of the modes, as the layers after it in {source} are made for, got "
                f"{len(modes)}; choose as many"
            )
    elif not modes:
        modes = ("mean",)
        notes += (f"{source}: nothing here says how to pool, so the mean is taken; --pooling says otherwise",)
    if normalize is not None:
        after = tuple(module for module in after if not isinstance(module, Normalize))
        after += (Normalize(),) * normalize
    return replace(recipe, modes=modes, after=after, notes=notes)


def read(model: str) -> Recipe:
    """What the folder of a model, or its place on the hub, says.

    Raises: ValueError where it says what cannot be followed, or its files cannot be read.
    """
    modules = model_json(model, "modules.json")
    if modules is None:
        return Recipe()
    try:
        return _read(model, modules)
    except (AttributeError, TypeError, KeyError, IndexError, OverflowError) as error:  # a value of another kind
        raise ValueError(
            f"{model}: expected modules.json and what it names as sentence-transformers writes them, got {line(error)}; save "
            "the model anew"
        ) from None


def _read(model: str, modules: list[dict]) -> Recipe:
    where = f"{model}/modules.json"
    kinds = [str(module.get("type", "")) if isinstance(module, dict) else "" for module in modules]
    names = [kind.rsplit(".", 1)[-1] if kind.startswith("sentence_transformers.") else kind for kind in kinds]
    if names[:2] != ["Transformer", "Pooling"]:
        raise ValueError(
            f"{where}: expected a Transformer, then a Pooling, got {', '.join(names[:2]) or 'nothing'}; such a model has no "
            "vectors that are pooled from its rows, use sentence-transformers for it"
        )
    paths = [str(module.get("path", "")) for module in modules]
    first = _read_transformer(model, paths[0])
    config = model_json(model, f"{paths[1]}/config.json", needed=True)
    modes, prompt_counts = _read_pooling(config, f"{model}/{paths[1]}/config.json")
    after = [_read_module(model, name, path) for name, path in zip(names[2:], paths[2:], strict=True)]
    prompt, notes = _read_prompt(model)
    return Recipe(
        modes, tuple(after), prompt=prompt, prompt_counts=prompt_counts, subfolder=paths[0], notes=notes, **first
    )


def _read_transformer(model: str, path: str) -> dict[str, Any]:
    found = ((name, model_json(model, f"{path}/{name}".lstrip("/"))) for name in READ_CONFIGS)
    name, config = next(((name, config) for name, config in found if config is not None), (READ_CONFIGS[0], {}))
    config = dict(config)
    longest = config.pop("max_seq_length", None)
    if longest is not None and (type(longest) is not int or longest < 1):
        raise ValueError(
            f"{model}/{name}: expected max_seq_length as a number of tokens, 1 or more, got {longest!r}; correct it"
        )
    read = {"longest": longest, "lower": bool(config.pop("do_lower_case", False))}
    read["tokenizer"] = config.pop("processor_kwargs", None) or config.pop("tokenizer_args", None)
    text = config.get("modality_config", {}).get("text", {})
    as_usual = (
        config.get("transformer_task", "feature-extraction") == "feature-extraction"
        and config.get("module_output_name", "token_embeddings") == "token_embeddings"
        and text.get("method", "forward") == "forward"
        and text.get("method_output_name", "last_hidden_state") == "last_hidden_state"
    )
    odd = [key for key, value in config.items() if key not in HARMLESS and value not in (None, {}, False)]
    if odd or not as_usual:
        raise ValueError(
            f"{model}/{name}: expected a model whose last rows are pooled, got {', '.join(odd) or json.dumps(config)}, which is "
            "not followed here; take that out if it changes no vector, or use sentence-transformers"
        )
    return read


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
            f"{where}: expected pooling by one or more of {', '.join(MODES)}, got {', '.join(unknown) or 'none'}; choose of these"
        )
    return modes


def _read_module(model: str, name: str, path: str) -> nn.Module:
    where = f"{model}/{path}"
    config = model_json(model, f"{path}/config.json") or {}
    names = {config.get(key) or "sentence_embedding" for key in ("module_input_name", "module_output_name")}
    if name not in ("Dense", "LayerNorm", "Normalize", "Dropout") or names != {"sentence_embedding"}:
        raise ValueError(
            f"{where}: expected Dense, LayerNorm, Normalize or Dropout on the pooled vector, got {name or 'a module without type'}"
            f"{'' if names == {'sentence_embedding'} else ' on ' + ', '.join(sorted(names))}; use sentence-transformers for it"
        )
    if name in ("Normalize", "Dropout"):
        return Normalize() if name == "Normalize" else nn.Identity()
    try:
        activation = nn.Identity() if name == "LayerNorm" else _activation(config, where)
        with torch.device("meta"):  # so that a size that is a lie takes no memory
            if name == "LayerNorm":
                layer, prefix = nn.LayerNorm(config["dimension"]), "norm."
            else:
                layer = nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True))
                prefix = "linear."
        weights = load_file(model_file(model, f"{path}/model.safetensors", needed=True))
        if whole := [key for key, tensor in weights.items() if not tensor.is_floating_point()]:
            raise TypeError(f"{weights[whole[0]].dtype} in {whole[0]}")
        tensors = {key.removeprefix(prefix): tensor.float() for key, tensor in weights.items()}
        layer.load_state_dict(tensors, assign=True)
    except (KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"{where}: expected the sizes and weights of a {name}, got {line(error)}; save the model anew"
        ) from None
    return nn.Sequential(layer, activation).requires_grad_(False)


def _activation(config: dict[str, Any], where: str) -> nn.Module:
    """An activation of torch.nn by its full name, which is all a configuration may name: no other code is imported."""
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
        note = f"{model}: no prompt is put before the texts; the model knows {', '.join(prompts)}, write one into each text"
        return "", (note,) if prompts else ()
    if default not in (config.get("prompts") or {}):
        raise ValueError(
            f"{where}: expected a prompt {default!r}, as default_prompt_name says, got {', '.join(prompts) or 'none'}; add it"
        )
    prompt = prompts.get(default, "")
    if not isinstance(prompt, str):
        raise TypeError(f"{prompt!r} as the prompt {default!r}")
    return prompt, ()
