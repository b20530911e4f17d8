"""A configuration must be what it says, come back as it was written, and name what is wrong with it in one sentence."""

import json
from typing import get_args

import pytest

from sightline.encoders import KINDS
from sightline.training.config import EncoderConfig, RunConfig, setting_fields


def test_written_and_given_back(tmp_path):
    config = RunConfig().changed(kind="convolution", kernel=7, seconds=30, data="scope", betas=(0.9, 0.95))
    (tmp_path / "config.json").write_text(config.to_json())
    assert RunConfig.read(tmp_path / "config.json") == config


def test_settings_find_their_section():
    config = RunConfig().changed(text="review", width=64, rate=3e-3)
    assert (config.data.text, config.encoder.width, config.training.rate) == ("review", 64, 3e-3)


def test_one_budget_and_a_default():
    assert RunConfig().training.steps == 1000
    by_time = RunConfig().changed(seconds=5)
    assert (by_time.training.steps, by_time.training.epochs, by_time.training.seconds) == (None, None, 5)
    assert by_time.changed(epochs=2).training.seconds is None
    assert by_time.changed(width=8).training.seconds == 5


def test_the_kinds_are_those_that_can_be_built():
    assert get_args(EncoderConfig.model_fields["kind"].annotation) == KINDS


def test_names_are_unique_over_sections():
    sections = [section.model_fields for section in map(type, vars(RunConfig()).values())]
    assert sum(map(len, sections)) == len(setting_fields())
    assert all(field.description for field in setting_fields().values())


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"widht": 3}, "settings: expected a known name, got widht; did you mean width?"),
        ({"zzz": 3}, "settings: expected a known name, got zzz; the names are data, valid, test, task, text, "),
        ({"width": 0}, "settings: expected width to be greater than or equal to 1, got 0; correct it"),
        ({"seed": 10**20}, "settings: expected seed to be less than 18446744073709551616, got 1"),
        ({"rate": "fast"}, "settings: expected rate to be a valid number, unable to parse"),
        ({"kind": "gru"}, "settings: expected encoder to be 'self-attention', 'rnn', 'lstm',"),
        (
            {"kind": "lstm", "heads": 2},
            "settings: encoder: expected no heads for lstm, it concerns self-attention and fully-",
        ),
        (
            {"steps": 3, "seconds": 3},
            "settings: training: expected one budget, got steps and seconds; keep one of them",
        ),
        ({"evaluate_every": "7"}, "settings: expected evaluate_every to be a share or a number with its unit, as in"),
        ({"evaluate_every": "0 steps"}, "settings: expected evaluate_every to be a share or a number with its unit"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError) as error:
        RunConfig().changed(**settings)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "expected a file to read, got: No such file or directory; check the path"),
        ("{", "expected JSON, got: Expecting property name"),
        ("[" * 100_000, "expected JSON, got: maximum recursion depth exceeded"),
        ("[]", "to be a valid dictionary or"),
        (json.dumps({"encoder": {"widths": 3}}), "expected a known name, got encoder.widths; did you mean width"),
        (json.dumps({"extra": {}}), "expected a known name, got extra; "),
    ],
)
def test_wrong_files(tmp_path, content, message):
    path = tmp_path / "config.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError) as error:
        RunConfig.read(path)
    assert str(error.value).startswith(f"{path}: ") and message in str(error.value)
    assert "\n" not in str(error.value)
