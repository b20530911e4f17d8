"""Run by test_processes under torchrun: trains, and keeps a copy of the folder as it is half way.

torchrun --nproc_per_node=2 together.py FOLDER
"""

import shutil
import sys
from pathlib import Path

from sightline.training import checkpoint
from sightline.training.runs import fit

SETTINGS = {
    "encoder": "self-attention",
    "width": 16,
    "layers": 1,
    "tokens": 64,
    "steps": 24,
    "rate": 1e-2,
    "log_every": 1,
    "evaluate_every": "8 steps",
    "checkpoint_every": "12 steps",
    "progress": False,
}


def main(folder: Path) -> None:
    save = checkpoint.save

    def save_and_copy(path, *arguments):
        save(path, *arguments)
        shutil.copytree(path.parent, folder / "half", dirs_exist_ok=False) if not (folder / "half").exists() else None

    checkpoint.save = save_and_copy
    model = fit(folder / "reviews.csv", out=folder / "two", **SETTINGS)
    print("weights", sum(float(p.double().sum()) for p in model.parameters()), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
