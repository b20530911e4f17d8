"""The commands, thin: read what was typed, call the function of the same name, print what came back.

app           the application: errors as sentences       encoders    fit, evaluate, predict, generate, compare
huggingface   embed, check                               look        look
heads         heads                                    settings    options from the fields of the configuration
output        tables and answers                       waiting     how long OpenMP's threads may spin

Nothing heavy is imported before a command runs, so that help comes at once.
"""

from sightline.cli.app import app
from sightline.cli.encoders import compare, evaluate, fit, generate, predict
from sightline.cli.heads import heads
from sightline.cli.huggingface import check, embed
from sightline.cli.look import look

__all__ = ["app", "check", "compare", "embed", "evaluate", "fit", "generate", "heads", "look", "predict"]
