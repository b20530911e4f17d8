"""What a run finds in its folder and in its settings before it trains, shared by `fit` and `compare`.

A run's folder holds the files of the model (`model.py`) and

    metrics.jsonl  results.json  checkpoint.safetensors  digests.json  tensorboard/

One run at a time writes into it (`files.locked`); evaluate, predict and generate read it at any time.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from sightline.files import LOCK, folder_name, is_empty, read_bytes, remove_partial, write_files
from sightline.tasks import Data, task_from_json
from sightline.tasks.readers import TABLE, memory_tables, source_name
from sightline.training import digests
from sightline.training.config import RunConfig
from sightline.training.digests import DIGESTS
from sightline.training.loop import CHECKPOINT
from sightline.training.model import CONFIG, TASK, TOKENIZER, WEIGHTS, Model
from sightline.training.record import BOARD, METRICS

RESULTS = "results.json"
FILES = (CONFIG, TASK, TOKENIZER, WEIGHTS, CHECKPOINT, METRICS, RESULTS, DIGESTS, BOARD)


# --- configuration ----------------------------------------------------------------------------------------------------


def split_tables(settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings that are not None, with tables by name only as in a configuration, and the tables themselves."""
    settings = {name: value for name, value in settings.items() if value is not None or name == "data"}
    tables = memory_tables(settings)
    name = {"data": source_name(settings["data"])} if "data" in settings else {}
    return settings | name | dict.fromkeys(tables, TABLE), tables


def default_folder(out: str | Path | None, data: str, name: str) -> Path:
    """The folder `out`, or one under runs/ after a pattern such as "{}-lstm", with the name of the data."""
    return Path("runs", name.format(folder_name(data) or "data")) if out is None else Path(out)


def start_config(config: RunConfig | str | Path | None, data: str | None) -> RunConfig:
    """The configuration to start from; of a run's own config.json without what its data decided, to decide it again."""
    if not config or isinstance(config, RunConfig):
        return config or RunConfig()
    start, task = RunConfig.read(config), Path(config).with_name(TASK)
    if not task.exists():  # written by hand
        return start
    undecided: dict[str, Any] = {}
    if start.encoder.causal == task_from_json(json.loads(task.read_text("utf-8"))).causal:
        undecided["causal"] = None
    if data != start.data.data:  # on the same data, `largest` may be the user's
        undecided["largest"] = None
    return start.changed(**undecided)


def completed(config: RunConfig, data: Data) -> RunConfig:
    """The configuration with what the data decides: causal, the longest input, and the width of vectors."""
    settings: dict[str, Any] = {}
    if config.encoder.causal is None:
        settings["causal"] = data.task.causal
    if config.encoder.kind == "fully-connected" and config.encoder.largest is None:
        parts = [part.lengths for part in (data.train, data.valid, data.test) if part is not None]
        settings["largest"] = int(torch.cat(parts).max())
    settings["features"] = data.train.inputs.values.shape[1] if data.tokenizer is None else None
    return config.changed(**settings)


def check_same_settings(folder: Path, config: RunConfig) -> RunConfig:
    """The configuration of the run in a folder. Raises: ValueError where a setting of `config` contradicts it."""
    saved = RunConfig.read(folder / CONFIG)
    before = saved.settings()
    for name, value in config.settings().items():
        if value is not None and value != before[name]:
            raise ValueError(
                f"{folder}: expected the settings the run began with, {'encoder' if name == 'kind' else name} "
                f"{before[name]}, got {value}; leave it out, or start anew in another folder"
            )
    return saved


# --- files ------------------------------------------------------------------------------------------------------------


def clear(folder: Path, overwrite: bool) -> None:
    """Empties a folder. Raises: ValueError where it holds anything but a run, or a run without `overwrite`."""
    remove_partial(folder)
    if is_empty(folder):
        return
    others = sorted(path.name for path in folder.iterdir() if path.name not in {*FILES, LOCK})
    if not overwrite or others or not (folder / CONFIG).is_file():
        files = f"files of another kind ({others[0]})" if overwrite and others else "files"
        advice = "" if overwrite else "resume the run, write over it with overwrite, or "
        raise ValueError(f"{folder}: expected a new or empty folder, got one with {files}; {advice}name another out")
    for path in sorted(map(folder.joinpath, FILES), key=lambda path: path.name != DIGESTS):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def begin(folder: Path, model: Model, resume: bool) -> None:
    """Writes what describes the model before training, or checks that the run to resume began with the same."""
    files = model.description()
    remove_partial(folder)
    for name, content in files.items() if resume else ():
        if (folder / name).exists() and read_bytes(folder / name) != content:
            raise ValueError(
                f"{folder / name}: expected the same as the data gives now, got another; restore the data, or start "
                "anew in another folder"
            )
    if resume and digests.listed(folder) is None:  # of an earlier version, or killed before these were written
        write_files(folder, files)
    else:
        digests.save(folder, files)
