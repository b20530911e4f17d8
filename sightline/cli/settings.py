"""Options that are settings of a run: name, type, help and default come from the fields of `training/config.py`.

The fields need pydantic, so they are read only when a command that takes them runs or shows its help.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from inspect import Parameter, signature
from typing import Annotated, Any, get_args

import typer

SHARED = ("task", "text", "label", "tokenizer", "valid", "test", "encoding", "separator", "width", "layers", "tokens")
COMPARE = (*SHARED, "steps", "seconds", "precision")
FIT = (*SHARED, "steps", "epochs", "seconds", "rate", "seed", "precision")
ELSEWHERE = {"encoder": "name it with --encoder, of compare with --encoders", "data": "name it as the argument"}
Others = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any other setting of a run's config.json; may be repeated."),
]


def takes_settings(*names: str) -> Callable:
    """Marks a function with `**settings`: options of these names are added when its command is called.

    A positional parameter of such a name becomes an argument with the help of the setting.
    """

    def mark(function: Callable) -> Callable:
        function.setting_names = names
        own = signature(function, eval_str=True).parameters.values()
        _set_parameters(function, [parameter for parameter in own if parameter.kind is not Parameter.VAR_KEYWORD])
        return function

    return mark


def with_settings(command: Any, name: str) -> Any:
    """The command with the options that its function was marked with; any other command as it is."""
    function: Any = getattr(command.callback, "__wrapped__", None)
    if not hasattr(function, "setting_names"):
        return command
    own = {parameter.name: parameter for parameter in signature(function).parameters.values()}
    positional = [key for key in own if own[key].kind is not Parameter.KEYWORD_ONLY]
    settings = {key: _parameter(key, name, key in positional) for key in function.setting_names}
    order = dict.fromkeys([*positional, *settings, *own])  # keyword-only ones of the function's own come last
    _set_parameters(function, [(own | settings)[key] for key in order])
    single = typer.Typer(rich_markup_mode=None, add_completion=False)
    single.command(name)(function)
    return typer.main.get_command(single)


def _set_parameters(function: Callable, parameters: list[Parameter]) -> None:
    function.__signature__ = signature(function).replace(parameters=parameters)  # typer reads it


def _parameter(setting: str, command: str, is_argument: bool) -> Parameter:
    """The parameter of a function that typer makes an option (or an argument) of, from the field of a setting."""
    from sightline.training.config import DEFAULTS, setting_fields

    field = setting_fields()["kind" if setting == "encoder" else setting]
    text = (field.description or "").replace(" [default", "  [default")
    if is_argument:
        annotation = Annotated[_type(field.annotation), typer.Argument(help=text)]
        return Parameter(setting, Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation)
    default = DEFAULTS.get(command, {}).get(setting, field.default)
    if default is not None:
        text += f"  [default: {default:g}]" if isinstance(default, float) else f"  [default: {default}]"
    annotation = Annotated[_type(field.annotation) | None, typer.Option(help=text)]
    return Parameter(setting, Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _type(annotation: Any) -> type:
    """The type of an option: int for `Annotated[int, ...] | None`, float for `float | None`, else str."""
    while arguments := get_args(annotation):
        annotation = arguments[0]
    return annotation if annotation in (int, float) else str


def merged(settings: dict[str, Any], others: list[str] | None) -> dict[str, Any]:
    """Settings from options, and those of `--set`, of which a value that reads as JSON is JSON, else text."""
    from sightline.training.config import nearest, setting_fields

    settings = dict(settings)
    for pair in others or []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"--set: expected NAME=VALUE, as in heads=8, got {pair!r}")
        if name not in setting_fields() or name == "data":
            hint = ELSEWHERE.get(name) or nearest(name, list(setting_fields()))
            raise ValueError(f"--set: expected the name of a setting, got {name}; {hint}")
        try:
            settings[name] = json.loads(value)
        except (ValueError, RecursionError):
            settings[name] = value
    return settings
