"""The configuration of a run: checked when it is built, written beside the run, and read to repeat it.

Names are unique over all sections, so `width=64, rate=3e-3` need no section. Each field states the name, type, bounds,
default and help of a setting once: `fit(...)`, `compare(...)`, config.json and the options of the command line all
follow from it.
"""

import json
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from sightline.files import read_json

MOST_BYTES = 2**20  # of a config.json
MOST = 2**40  # far from where products of two counts leave 64 bits
NUMBER = r"(\d*[1-9]\d*(\.\d+)?|\d+\.\d*[1-9]\d*)"  # above 0
INTERVAL = "a share or a number with its unit, as in 10%, 500 steps, 100000 tokens or 30 seconds"
Count = Annotated[int, Field(ge=1, lt=MOST)]
Size = Annotated[int, Field(ge=1, lt=2**31)]  # of a tensor
Every = Annotated[str, Field(pattern=rf"^\s*{NUMBER}\s*(%|steps?|tokens?|seconds?)\s*$")]

BUDGETS = ("steps", "epochs", "seconds")
DEFAULTS: dict[str, dict[str, Any]] = {  # of each command, where they are not those of the fields
    "fit": {"steps": 1000},
    # Small enough that minutes say something; `seconds` is for each encoder.
    "compare": {"width": 64, "layers": 3, "tokens": 1024, "evaluate_every": "5%", "seconds": 40.0},
}
KINDS_WITH = {  # the encoders that have an option which others lack
    "heads": ("self-attention", "fully-connected"),
    "key_heads": ("self-attention",),
    "window": ("self-attention",),
    "rotary": ("self-attention",),
    "kernel": ("convolution",),
    "dilation": ("convolution",),
    "largest": ("fully-connected",),
    "rank": ("fully-connected",),
}


def setting(default: Any, help: str, **bounds) -> Any:
    """A field whose description is the help text of its option."""
    return Field(default, description=help, **bounds)


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataConfig(Section):
    """What is learned from which data; None is chosen from the data."""

    data: str = setting(
        "",
        "A file, a folder with train, valid and test files, a name on the hub, scope, or a generated task, as "
        "parity:length=1-40 (docs/tasks.md).",
    )
    valid: str | None = setting(None, "A file to validate on. [default: a tenth of the data]")
    test: str | None = setting(None, "A file to test on. [default: a tenth of a single file]")
    task: str | None = setting(None, "classify, tag, regress or language. [default: by the columns]")
    text: str | None = setting(None, "The column to read. [default: by the columns]")
    label: str | None = setting(None, "The column to learn. [default: by the columns]")
    tokenizer: str | None = setting(None, "bytes, characters, words, bpe, or a tokenizer.json. [default: by the task]")
    vocabulary: Count | None = setting(None, "Most tokens the tokenizer may know. [default: by its kind]")
    context: Count = setting(256, "language: tokens read at once.")
    encoding: str | None = setting(None, "Encoding of text files, as cp1252. [default: utf-8, or by the file's mark]")
    separator: str | None = setting(None, "Between columns of a .csv or .tsv: ';', tab, ... [default: by the file]")


class EncoderConfig(Section):
    """One encoder: the kind decides how rows are mixed, all else is shared; None is the default of the kind."""

    kind: Literal["self-attention", "rnn", "lstm", "convolution", "fully-connected"] = setting(
        "self-attention", "self-attention, rnn, lstm, convolution or fully-connected."
    )
    width: Size = setting(128, "Numbers per row.")
    layers: int = setting(3, "Number of blocks.", ge=0, lt=2**16)
    hidden: Size | None = setting(None, "Width inside the mlp of a block. [default: 4 x width]")
    dropout: float = setting(0.0, "Share of the numbers dropped while training.", ge=0, lt=1)
    causal: bool | None = setting(None, "See no later rows. [default: only if the task needs it]")
    features: Size | None = setting(None, "Numbers in each vector read. [default: as in the data]")
    pool: Literal["mean", "max", "last", "attention"] | None = setting(
        None, "How rows become one answer per sequence. [default: by the task]"
    )
    heads: Size | None = setting(None, "self-attention, fully-connected: heads.")
    key_heads: Size | None = setting(None, "self-attention: heads of keys and values. [default: heads]")
    window: int | None = setting(None, "self-attention: rows seen to each side. [default: all]", ge=0, lt=MOST)
    rotary: float | None = setting(None, "self-attention: share of each head that carries positions.", ge=0, le=1)
    kernel: Size | None = setting(None, "convolution: rows seen at once.")
    dilation: Literal["plain", "dilated"] | None = setting(None, "convolution: plain, or dilated (1, 2, 4, ...).")
    largest: Size | None = setting(None, "fully-connected: longest sequence. [default: longest in the data]")
    rank: Size | None = setting(None, "fully-connected: rank of the matrix over positions. [default: full]")

    @model_validator(mode="after")
    def _check_kind_has_options(self):
        for name, kinds in KINDS_WITH.items():
            if getattr(self, name) is not None and self.kind not in kinds:
                raise ValueError(f"expected no {name} for {self.kind}, it concerns {' and '.join(kinds)}; leave it out")
        return self

    def options(self) -> dict:
        """The keyword arguments of `encoders.build`, but for the vocabulary."""
        return self.model_dump(exclude={"pool"}, exclude_none=True)


class TrainingConfig(Section):
    """How it is learned: AdamW with warm-up and cosine to a tenth, within one budget of steps, epochs or seconds."""

    tokens: Count = setting(4096, "Tokens per batch; a longer sequence is a batch of its own.")
    accumulate: Count = setting(1, "Batches per step.")
    steps: Count | None = setting(None, "Budget: steps.")
    epochs: Count | None = setting(None, "Budget: passes over the data.")
    seconds: float | None = setting(None, "Budget: seconds of training; not reproducible to the bit.", gt=0)
    evaluation_counts: bool = setting(False, "Seconds include evaluations. [default: true in fit, false in compare]")
    rate: float = setting(1e-3, "Learning rate at its peak.", gt=0)
    warmup: float = setting(0.05, "Share of the budget in which the rate rises.", ge=0, le=1)
    weight_decay: float = setting(0.01, "Weight decay, of matrices only.", ge=0)
    betas: tuple[float, float] = setting((0.9, 0.99), "Decay rates of the two averages of AdamW.")
    clip: float = setting(1.0, "Largest norm of the gradient.", gt=0)
    precision: Literal["float32", "bfloat16"] = setting("float32", "float32 or bfloat16, of matrix products.")
    seed: int = setting(0, "Seed of weights, order and dropout.", ge=0, lt=2**64)
    evaluate_every: Every = setting("10%", "10%, 500 steps, 100000 tokens or 30 seconds.")
    checkpoint_every: Every = setting("60 seconds", "10%, 500 steps, 100000 tokens or 30 seconds.")
    log_every: Count = setting(10, "Steps per line of metrics.jsonl.")

    @model_validator(mode="before")
    @classmethod
    def _require_one_budget(cls, values):
        if isinstance(values, dict):
            budgets = [name for name in BUDGETS if values.get(name) is not None]
            if len(budgets) > 1:
                raise ValueError(f"expected one budget, got {' and '.join(budgets)}; keep one of them")
            if not budgets:
                return values | DEFAULTS["fit"]
        return values


class RunConfig(Section):
    """The whole configuration of a run.

    >>> config = RunConfig().changed(kind="lstm", width=64, seconds=30)
    >>> config.encoder.width, config.training.seconds, config.training.steps
    (64, 30.0, None)
    >>> RunConfig().changed(widht=64)
    Traceback (most recent call last):
    ValueError: settings: expected a known name, got widht; did you mean width?
    """

    data: DataConfig = DataConfig()
    encoder: EncoderConfig = EncoderConfig()
    training: TrainingConfig = TrainingConfig()

    def changed(self, **settings) -> "RunConfig":
        """This configuration with some settings replaced, each in the section that has its name.

        A budget replaces the previous one. Raises: ValueError for an unknown name or a bad value.
        """
        sections = self.model_dump()
        if any(settings.get(name) is not None for name in BUDGETS):
            sections["training"].update(dict.fromkeys(BUDGETS))
        for name, value in settings.items():
            section = next((section for section in sections.values() if name in section), None)
            if section is None:
                raise ValueError(f"settings: expected a known name, got {name}; {nearest(name)}")
            section[name] = value
        return _validated("settings", sections)

    def settings(self) -> dict[str, Any]:
        """All settings by name, without sections."""
        return {name: value for section in self.model_dump().values() for name, value in section.items()}

    def to_json(self) -> str:
        try:
            return self.model_dump_json(indent=2) + "\n"
        except ValueError:  # a file name that is no UTF-8
            return json.dumps(self.model_dump(), indent=2) + "\n"

    @classmethod
    def read(cls, path: str | Path) -> "RunConfig":
        """The configuration of a file, written by a run or by hand.

        Raises: ValueError, naming the file, where it is missing, is no JSON, or has an unknown name or a bad value.
        """
        return _validated(str(path), read_json(path, MOST_BYTES))


def setting_fields() -> dict[str, FieldInfo]:
    """The field of every setting."""
    sections = (DataConfig, EncoderConfig, TrainingConfig)
    return {name: field for section in sections for name, field in section.model_fields.items()}


def nearest(name: str, among: Sequence[str] | None = None) -> str:
    """The name that was probably meant, of some names, or of all settings and sections."""
    near = get_close_matches(name, among or [*setting_fields(), "encoder", "training"], n=2, cutoff=0.6)
    return f"did you mean {' or '.join(near)}?" if near else f"the names are {', '.join(setting_fields())}"


def _validated(where: str, sections: Any) -> RunConfig:
    """Raises: ValueError with one sentence on the first thing that is wrong."""
    try:
        return RunConfig.model_validate(sections)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    name, place = str((first["loc"] or ("",))[-1]), ".".join(map(str, first["loc"]))
    if where == "settings":  # whose user names no section, and the kind by another name
        place = place.partition(".")[2] or place
        place = "encoder" if place == "kind" else place
    if first["type"] == "extra_forbidden":
        raise ValueError(f"{where}: expected a known name, got {place}; {nearest(name)}") from None
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        raise ValueError(f"{where}: {place}: {message}") from None
    value = repr(first["input"])
    value = value if len(value) <= 60 else f"{value[:57]}..."
    raise ValueError(f"{where}: expected {place} to be {_expected(first, place)}, got {value}; correct it") from None


def _expected(error: Any, place: str) -> str:
    """What a value must be, where pydantic's own words do not help."""
    if place.endswith(("evaluate_every", "checkpoint_every")):
        return INTERVAL
    if "betas" in place:
        return "two numbers, as in [0.9, 0.99]"
    if error["type"] == "int_parsing_size":
        return f"a whole number below {MOST}"
    if error["type"] == "string_type":
        description = setting_fields()[str(error["loc"][-1])].description or ""
        return f"a text: {description[:1].lower()}{description[1:]}".rstrip(".")
    return error["msg"].removeprefix("Input should be ").removeprefix("Input should have ")
