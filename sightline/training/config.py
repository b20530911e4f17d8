"""What a run was asked to do: checked when it is made, written beside the run, and given back to repeat it.

Names are unique over all sections, so that `width=64, rate=3e-3` say where they belong by themselves.
"""

import json
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sightline.files import read_json

MOST_BYTES = 2**20  # of a config.json
MOST = 2**40  # far from where products of two counts leave 64 bits
NUMBER = r"(\d*[1-9]\d*(\.\d+)?|\d+\.\d*[1-9]\d*)"  # above 0
Count = Annotated[int, Field(ge=1, lt=MOST)]  # of something that is counted
Size = Annotated[int, Field(ge=1, lt=2**31)]  # of a tensor
Every = Annotated[str, Field(pattern=rf"^\s*{NUMBER}\s*(%|steps?|tokens?|seconds?)\s*$")]

CONCERNS = {  # the options that only some kinds of encoder have
    "heads": ("self-attention", "fully-connected"),
    "key_heads": ("self-attention",),
    "window": ("self-attention",),
    "rotary": ("self-attention",),
    "kernel": ("convolution",),
    "dilation": ("convolution",),
    "largest": ("fully-connected",),
    "rank": ("fully-connected",),
}


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataConfig(Section):
    """What is learned from what; None is chosen from the data."""

    data: str = Field(
        "",
        description="a file, a folder with train, valid and test, a name on the hub, scope (built in), or a generated task such as parity:length=1-40",
    )
    valid: str | None = Field(None, description="a file to validate on [default: a tenth of the data]")
    test: str | None = Field(None, description="a file to test on [default: a tenth of a single file]")
    task: str | None = Field(None, description="classify, tag, regress or language [default: by the columns]")
    text: str | None = Field(None, description="the column to read [default: by the columns]")
    label: str | None = Field(None, description="the column to learn [default: by the columns]")
    tokenizer: str | None = Field(
        None, description="bytes, characters, words, bpe, or a tokenizer.json [default: words; for language characters]"
    )
    vocabulary: Count | None = Field(None, description="most tokens the tokenizer may know [default: by its kind]")
    context: Count = Field(256, description="language: tokens read at once")
    encoding: str | None = Field(
        None, description="of text files, such as latin-1 [default: utf-8, or as a file's mark says]"
    )
    separator: str | None = Field(
        None, description="what parts the columns of a .csv or .tsv, such as ; or tab [default: by the file]"
    )


class EncoderConfig(Section):
    """One encoder: the kind decides what happens across rows, all else is shared; None is the kind's own default."""

    kind: Literal["self-attention", "rnn", "lstm", "convolution", "fully-connected"] = Field(
        "self-attention", description="self-attention, rnn, lstm, convolution or fully-connected"
    )
    width: Size = Field(128, description="numbers per row")
    layers: int = Field(3, ge=0, lt=2**16, description="blocks")
    hidden: Size | None = Field(None, description="width inside a block's mlp [default: 4 x width]")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of the numbers dropped while training")
    causal: bool | None = Field(None, description="see no later rows [default: only if the task needs it]")
    features: Size | None = Field(None, description="numbers in each vector read [default: as in the data]")
    pool: Literal["mean", "max", "last", "attention"] | None = Field(
        None, description="how rows become one answer per sequence [default: the task's]"
    )
    heads: Size | None = Field(None, description="self-attention, fully-connected: heads")
    key_heads: Size | None = Field(None, description="self-attention: heads of keys and values [default: heads]")
    window: int | None = Field(None, ge=0, lt=MOST, description="self-attention: rows seen to each side [default: all]")
    rotary: float | None = Field(
        None, ge=0, le=1, description="self-attention: share of each head that carries positions"
    )
    kernel: Size | None = Field(None, description="convolution: rows seen at once")
    dilation: Literal["plain", "dilated"] | None = Field(
        None, description="convolution: plain, or dilated (1, 2, 4, ... by layer)"
    )
    largest: Size | None = Field(None, description="fully-connected: longest sequence [default: longest in the data]")
    rank: Size | None = Field(None, description="fully-connected: rank of the matrix over positions [default: full]")

    @model_validator(mode="after")
    def _each_option_concerns_the_kind(self):
        for name, kinds in CONCERNS.items():
            if getattr(self, name) is not None and self.kind not in kinds:
                raise ValueError(f"expected no {name} for {self.kind}, it concerns {' and '.join(kinds)}; leave it out")
        return self

    def options(self) -> dict:
        """The keyword arguments of `encoders.build`, but for what it reads."""
        return {name: value for name, value in self.model_dump(exclude={"pool"}).items() if value is not None}


class TrainingConfig(Section):
    """How it is learned: AdamW with warm-up and cosine to a tenth, within one budget of steps, epochs or seconds."""

    tokens: Count = Field(4096, description="tokens per batch; a longer sequence is a batch of its own")
    accumulate: Count = Field(1, description="batches per step")
    steps: Count | None = Field(None, description="budget: steps [default: 1000 where no budget is given]")
    epochs: Count | None = Field(None, description="budget: passes over the data")
    seconds: float | None = Field(None, gt=0, description="budget: seconds of training (not reproducible to the bit)")
    evaluation_counts: bool = Field(
        False, description="the seconds include the evaluations [default: they do, but not in compare]"
    )
    rate: float = Field(1e-3, gt=0, description="learning rate at its peak")
    warmup: float = Field(0.05, ge=0, le=1, description="share of the budget in which the rate rises")
    weight_decay: float = Field(0.01, ge=0, description="weight decay, of matrices only")
    betas: tuple[float, float] = Field((0.9, 0.99), description="memory of AdamW's two averages")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="of the products: float32 or bfloat16")
    seed: int = Field(0, ge=0, lt=2**64, description="of weights, order and dropout")
    evaluate_every: Every = Field("10%", description="10%, 500 steps, 100000 tokens or 30 seconds")
    checkpoint_every: Every = Field("60 seconds", description="in the same units")
    log_every: Count = Field(10, description="steps per line of metrics.jsonl")

    @model_validator(mode="before")
    @classmethod
    def _one_budget(cls, given):
        if isinstance(given, dict):
            budgets = [name for name in ("steps", "epochs", "seconds") if given.get(name) is not None]
            if len(budgets) > 1:
                raise ValueError(f"expected one budget, got {' and '.join(budgets)}; keep one of them")
            if not budgets:
                return {**given, "steps": 1000}
        return given


class RunConfig(Section):
    """All that a run was asked to do.

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

        A budget given replaces the budget there was. Raises: ValueError for an unknown name or a value that cannot be.
        """
        sections = self.model_dump()
        if {"steps", "epochs", "seconds"} & {name for name, value in settings.items() if value is not None}:
            sections["training"].update(steps=None, epochs=None, seconds=None)
        for name, value in settings.items():
            homes = [section for section in sections.values() if name in section]
            if not homes:
                raise ValueError(f"settings: expected a known name, got {name}; {nearest(name)}")
            homes[0][name] = value
        return _checked("settings", sections)

    def to_json(self) -> str:
        try:
            return self.model_dump_json(indent=2) + "\n"
        except ValueError:  # a file name that is no UTF-8
            return json.dumps(self.model_dump(), indent=2) + "\n"

    @classmethod
    def read(cls, path: str | Path) -> "RunConfig":
        """The configuration of a file, be it one that a run has written or one written by hand.

        Raises: ValueError, naming the file, where it is missing, is no JSON, or has a key or value that cannot be.
        """
        sections = read_json(path, MOST_BYTES)
        return _checked(str(path), sections)


def setting_names() -> dict[str, str]:
    """Every setting and what it does, for help texts and for saying which name was meant."""
    sections = (DataConfig, EncoderConfig, TrainingConfig)
    return {name: field.description for section in sections for name, field in section.model_fields.items()}


def _checked(where: str, sections) -> RunConfig:
    """Validates, and says the first thing wrong in one sentence."""
    try:
        return RunConfig.model_validate(sections)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    if where == "settings":  # given without their section, and the kind by another name
        place = place.partition(".")[2] or place
        place = "encoder" if place == "kind" else place
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        raise ValueError(f"{where}: expected a known name, got {place}; {nearest(str(first['loc'][-1]))}") from None
    if first["type"] == "value_error":
        raise ValueError(f"{where}: {place}: {message}") from None
    if place.endswith(("evaluate_every", "checkpoint_every")):
        message = "a share or a number with its unit, as in 10%, 500 steps, 100000 tokens or 30 seconds"
    elif "betas" in place:
        message = "two numbers, as in [0.9, 0.99]"
    elif first["type"] == "int_parsing_size":
        message = f"a whole number below {MOST}"
    elif first["type"] == "string_type":
        message = f"a text: {setting_names()[str(first['loc'][-1])]}"
    expected = message.removeprefix("Input should be ").removeprefix("Input should have ")
    got = repr(first["input"])
    got = got if len(got) <= 60 else f"{got[:57]}..."
    raise ValueError(f"{where}: expected {place} to be {expected}, got {got}; correct it") from None


def nearest(name: str, among: Sequence[str] | None = None) -> str:
    """Which name was meant: one of the settings and sections, unless others are given."""
    near = get_close_matches(name, among or [*setting_names(), "encoder", "training"], n=2, cutoff=0.6)
    return f"did you mean {' or '.join(near)}?" if near else f"the names are {', '.join(setting_names())}"
