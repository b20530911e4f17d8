"""The files of a model, in a folder or on the hub, read in bounded time: none is waited for where nobody answers."""

from __future__ import annotations

import json
import os
import time
from functools import lru_cache
from pathlib import Path
from threading import Thread
from typing import Any

import huggingface_hub
from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

EXPECTED = "expected the folder of a Hugging Face model or a name on the hub"
NOWHERE = "no folder of this name, nor a model on the hub"
PATIENCE = 3  # seconds that the hub has to answer at all; its own client tries for 23
MOST = 2**27  # bytes of a configuration


def model_file(model: str, name: str, needed: bool = False) -> Path | None:
    """Where a file of a model lies, None where there is none; of the hub's it is a copy that is kept.

    Raises: ValueError where it is `needed` and missing, and where there is neither such a folder nor an answer from the hub.
    """
    if os.path.isdir(model):
        path = Path(model, name)
        found = path if path.is_file() else None
    else:
        found = _of_the_hub(model, name)
    if found is None and needed:
        raise ValueError(
            f"{model}/{name}: expected this file, as modules.json says, got none; save or fetch the model anew"
        )
    return found


def model_json(model: str, name: str, needed: bool = False) -> Any:
    """What a JSON file of a model says: a list in modules.json, else an object; None where there is no such file."""
    path = model_file(model, name.lstrip("/"), needed)
    if path is None:
        return None
    try:
        if path.stat().st_size > MOST:
            raise ValueError(f"more than {MOST:,} bytes")
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: expected JSON, got a file that does not read ({line(error)}); fetch it anew"
        ) from None
    if not isinstance(config, list if name == "modules.json" else dict):
        raise ValueError(
            f"{path}: expected a JSON {'list' if name == 'modules.json' else 'object'}, got a {type(config).__name__}; fetch it anew"
        )
    return config


def where_to_look(model: str) -> dict[str, Any]:
    """What transformers is to be told, so that it runs no code of the model's own and does not wait for a hub that is silent."""
    if os.path.isdir(model):
        return {"trust_remote_code": False}
    silent = huggingface_hub.constants.HF_HUB_OFFLINE or not _hub_answers(int(time.monotonic() // 60))
    return {"trust_remote_code": False, "local_files_only": silent}


def line(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _of_the_hub(model: str, name: str) -> Path | None:
    try:
        huggingface_hub.utils.validate_repo_id(model)
        local = where_to_look(model).get("local_files_only", False)
        return Path(hf_hub_download(model, name, local_files_only=local, etag_timeout=PATIENCE))
    except LocalEntryNotFoundError:  # it may be there or not, unless it was asked for once
        if try_to_load_from_cache(model, name) is _CACHED_NO_EXIST:
            return None
        raise ValueError(
            f"{model}: {EXPECTED}, got no folder of this name, and the hub does not answer for {name}, of which no copy is kept; "
            "check the path, or go on line"
        ) from None
    except EntryNotFoundError:
        return None
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise ValueError(f"{model}: {EXPECTED}, got {NOWHERE} ({line(error)}); check path and name") from None


@lru_cache(1)
def _hub_answers(minute: int) -> bool:
    """Whether the hub answers anything, now; asked in a thread, since a resolver of names may not return for long."""
    answers = []

    def ask() -> None:
        try:
            session = huggingface_hub.get_session()
            session.head(huggingface_hub.constants.ENDPOINT, timeout=PATIENCE)
            answers.append(True)
        except Exception:  # of whatever library carries it
            pass

    asking = Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE + 1)
    return bool(answers)
