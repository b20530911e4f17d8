"""Training: configuration, loop, checkpoints, and the model that comes out. Begin reading with `loop.py`.

    config  the settings of a run     loop        the training loop, on one page     checkpoint  a run on disk
    runs    fit, evaluate, predict    run_folder  what a run finds and leaves        digests     damage is detected
    model   the trained model         record      metrics.jsonl and the progress bar

Names are imported when first used, so that the configuration, and with it `sightline fit --help`, loads no torch.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sightline.training.config import RunConfig
    from sightline.training.model import Model
    from sightline.training.runs import evaluate, fit, generate, predict

__all__ = ["Model", "RunConfig", "evaluate", "fit", "generate", "predict"]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sightline.training import runs

    return getattr(runs, name)
