"""Says what importing the core of sightline costs a user over `import torch`, each in a fresh Python, taking turns.

python benchmarks/importing.py
"""

from __future__ import annotations

import subprocess
import sys
from statistics import median

from side_by_side import arguments, show, stop, summary, take_turns, write

LIMIT = 0.3  # seconds over torch
HEAVY = ("accelerate", "pyarrow", "pydantic", "rich", "tokenizers", "transformers", "typer")
CORE = "from sightline import Pattern, Sequences, build"
LOADED = f"import sys; {CORE}; print([name for name in {HEAVY} if name in sys.modules])"


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    options = arguments(__doc__.split("\n")[0], repeats=11).parse_args()
    loaded = python(LOADED)
    if loaded != "[]":
        stop(
            f"import sightline: expected it to load no library that only a room needs, got {loaded}; "
            f"its time would mislead"
        )
    imports = {"torch": "import torch", "sightline": f"import torch; {CORE}"}
    turns = take_turns({name: lambda code=code: python(code) for name, code in imports.items()}, options.repeats)
    added = median(turns["sightline"]) - median(turns["torch"])
    show(
        f"import, seconds (median of {options.repeats} fresh Pythons each)",
        ["", "seconds"],
        [
            *([code, f"{median(turns[name]):.3f}"] for name, code in imports.items()),
            ["added", f"{added:.3f}  {'≤' if added <= LIMIT else '> (!)'} {LIMIT}"],
        ],
    )
    figures = {name: summary(seconds) for name, seconds in turns.items()}
    write(
        options.results, "importing", {"repeats": options.repeats, "seconds": figures, "added": added, "limit": LIMIT}
    )


if __name__ == "__main__":
    main()
