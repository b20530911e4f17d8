"""Run by test_resume: trains in processes that are killed, each time resuming, until one comes to its end.

killed.py FOLDER random|saving     random: after random times; saving: at each system call of a save in turn
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from sightline import files
from sightline.training import loop
from sightline.training.runs import fit

SETTINGS = {
    "encoder": "self-attention",
    "width": 16,
    "layers": 1,
    "dropout": 0.2,
    "accumulate": 2,
    "tokens": 64,
    "steps": 40,
    "rate": 0.05,
    "evaluate_every": "8 steps",
    "checkpoint_every": "3 steps",
    "log_every": 2,
    "progress": False,
}


# The best come last in so short a run; keeping the worst instead shows that what is kept survives.
loop.merit = lambda task, measures: measures["loss"]


def train(folder: Path, out: str, resume: bool) -> None:
    begun = (folder / out / "config.json").exists()
    fit(folder / "reviews.csv", out=folder / out, resume=resume and begun, **SETTINGS)


def in_child(work, kill_after: float | None = None) -> int:
    """Forks, works there, and kills it with -9 after some seconds; returns the status it ended with."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def killing_itself(call: int):
    """Makes this process die at its n-th write, fsync or rename of a save: in the middle of the write, and just before
    the others or, for odd numbers, just after."""
    left = [call]

    def deadly(original, last_act=None):
        def wrapped(*arguments):
            left[0] -= 1
            if left[0] == 0:
                (last_act or (original if call % 2 else lambda *_: None))(*arguments)
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments)

        return wrapped

    class File:
        def __init__(self, path):
            self.file = open(path, "xb")
            self.write = deadly(self.file.write, self.half)
            self.flush, self.fileno = self.file.flush, self.file.fileno

        def half(self, content):
            self.file.write(content[: len(content) // 2])
            self.file.flush()

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

    os.fsync, os.replace = deadly(os.fsync), deadly(os.replace)
    files._created = File


def main(folder: Path, moments: str) -> None:
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)]).step()  # imports what it imports once, not in every child
    began = time.perf_counter()
    if in_child(lambda: train(folder, "whole", resume=False)) != 0:
        sys.exit("the run that is not killed failed")
    whole = time.perf_counter() - began
    draw, kills, late = random.Random(time.time_ns()), 0, 0
    for attempt in range(1000):
        if moments == "random":
            status = in_child(lambda: train(folder, "killed", resume=True), draw.uniform(0.1, 0.5) * whole + late)
            late += whole / 30  # so that it ends some time
        else:

            def work(call=3 * attempt + 1):
                killing_itself(call)
                train(folder, "killed", resume=True)

            status = in_child(work)
        if status == 0:
            print(f"{kills} kills, {whole:.2f} s")
            return
        if status != signal.SIGKILL:
            sys.exit(f"ended with status {status} after {kills} kills")
        kills += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
