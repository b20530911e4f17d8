"""Training: a configuration, a loop, checkpoints, and the model that comes out of them.

config      what a run was asked to do        checkpoint  whole files on disk, whatever happens
loop        the training, on one page         record      metrics.jsonl and the progress bar
model       the trained thing, in a folder    fit         fit, evaluate, predict, generate
"""

from sightline.training.config import RunConfig
from sightline.training.fit import evaluate, fit, generate, predict
from sightline.training.model import Model

__all__ = ["Model", "RunConfig", "evaluate", "fit", "generate", "predict"]
