"""The files of a model, in a folder or on the hub, read in bounded time even where the hub does not answer."""

from __future__ import annotations

import os
import time
from functools import lru_cache
from pathlib import Path
from threading import Thread
from typing import Any

import huggingface_hub
from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

from sightline import files

EXPECTED = "expected the folder of a Hugging Face model or a name on the hub"
NOWHERE = "no folder of this name, nor a model on the hub"
PATIENCE = 3  # seconds for the hub to answer at all; its own client tries for 23


def model_file(model: str, name: str, needed: bool = False) -> Path | None:
    """The path of a file of a model, None where there is none; a file of the hub is a cached copy.

    Raises: ValueError where it is `needed` and missing, and where there is neither such a folder nor an answer from the
    hub.
    """
    if os.path.isdir(model):
        path = Path(model, name)
        path = path if path.is_file() else None
    else:
        path = _cached(model, name)
    if path is None and needed:
        raise ValueError(
            f"{model}/{name}: expected this file, as modules.json says, got none; save or fetch the model anew"
        )
    return path


def model_json(model: str, name: str, needed: bool = False) -> Any:
    """The content of a JSON file of a model: a list in modules.json, else an object; None without such a file."""
    path = model_file(model, name.lstrip("/"), needed)
    if path is None:
        return None
    config = files.read_json(path)
    kind, name = (list, "list") if name == "modules.json" else (dict, "object")
    if not isinstance(config, kind):
        raise ValueError(f"{path}: expected a JSON {name}, got a {type(config).__name__}; fetch it anew")
    return config


def loading_options(model: str) -> dict[str, Any]:
    """Options for `from_pretrained`: no code of the model's own runs, and a hub that is silent is not waited for."""
    if os.path.isdir(model):
        return {"trust_remote_code": False}
    silent = huggingface_hub.constants.HF_HUB_OFFLINE or not _hub_answers(int(time.monotonic() // 60))
    return {"trust_remote_code": False, "local_files_only": silent}


def one_line(error: Exception) -> str:
    """The message of an error in one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _cached(model: str, name: str) -> Path | None:
    try:
        huggingface_hub.utils.validate_repo_id(model)
        local = loading_options(model).get("local_files_only", False)
        return Path(hf_hub_download(model, name, local_files_only=local, etag_timeout=PATIENCE))
    except LocalEntryNotFoundError:  # whether it exists is known only if the cache says so
        if try_to_load_from_cache(model, name) is _CACHED_NO_EXIST:
            return None
        raise ValueError(
            f"{model}: {EXPECTED}, got no folder of this name, and the hub does not answer for {name}, of which no "
            "copy is kept; check the path, or go on line"
        ) from None
    except EntryNotFoundError:
        return None
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise ValueError(f"{model}: {EXPECTED}, got {NOWHERE} ({one_line(error)}); check path and name") from None


@lru_cache(1)
def _hub_answers(minute: int) -> bool:
    """Whether the hub answers, in this minute; in a thread, since a name lookup may block for long."""
    answers = []

    def request() -> None:
        try:
            session = huggingface_hub.get_session()
            session.head(huggingface_hub.constants.ENDPOINT, timeout=PATIENCE)
            answers.append(True)
        except Exception:  # of whatever library does the request
            pass

    thread = Thread(target=request, daemon=True)
    thread.start()
    thread.join(PATIENCE + 1)
    return bool(answers)
