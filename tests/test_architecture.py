"""The rules of the house, read from the syntax trees: who may import whom, how long things are, what is never used."""

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLACES = [  # from the top down; a room may import what stands below its place, and itself, but never a neighbour
    {"cli"},
    {"lens", "comparison", "head_roles"},
    {"models"},
    {"observe", "training"},
    {"encoders", "tasks", "huggingface"},
    {"batching", "textfiles", "resumable"},
    {"attention", "files"},
    {"sequences"},
    {"tabular", "kernels"},
]
CORE = {
    "tabular",
    "kernels",
    "sequences",
    "attention",
    "batching",
    "encoders",
    "observe",
}  # torch and numpy, nothing else
BESIDES = {  # opened when asked for
    "sightline.tabular": {"pyarrow"},
    "sightline.observe.files": {"safetensors"},
    "sightline.observe.tables": {"pyarrow"},
    "sightline.kernels.triton_statistics": {"triton"},
}
HEAVY = (
    "pydantic accelerate tokenizers pyarrow rich typer transformers datasets matplotlib pandas scipy sklearn".split()
)
NEVER = {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle", "pandas", "seaborn", "imp"}

LIBRARY = sorted((ROOT / "sightline").rglob("*.py"))
FILES = [
    *LIBRARY,
    *(path for room in ("studies", "tests", "benchmarks") for path in sorted((ROOT / room).rglob("*.py"))),
]
TREES = {path: ast.parse(path.read_text("utf-8")) for path in FILES}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in LIBRARY}
files = pytest.mark.parametrize("path", FILES, ids=name_of)
library = pytest.mark.parametrize("path", LIBRARY, ids=name_of)


def imports(path: Path) -> set[str]:
    """The full names of all that a file imports, at its top or inside a function: `a.b` for `from a import b`."""
    names = set()
    package = name_of(path).split(".")[: None if path.name == "__init__.py" else -1]
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def place_of(room: str) -> int:
    (place,) = [i for i, rooms in enumerate(PLACES) if room in rooms] or [None]
    assert place is not None, f"{room}: a new room; give it its place in PLACES"
    return place


@library
def test_imports_go_down_only(path):
    if path == ROOT / "sightline" / "__init__.py":
        return  # the front door opens all rooms
    room = name_of(path).split(".")[1]
    for name in imports(path):
        if name.split(".")[0] == "sightline":
            assert name.count(".") > 0, f"{name_of(path)} imports the front door"
            other = name.split(".")[1]
            assert other == room or place_of(room) < place_of(other), f"{room} may not import {other}"


@library
def test_no_import_hides_in_a_string(path):
    if path != ROOT / "sightline" / "__init__.py":
        assert not imports(path) & {"importlib.import_module", "importlib"}
        names = {node.id for node in ast.walk(TREES[path]) if isinstance(node, ast.Name)}
        assert not names & {"__import__", "exec", "eval"}


def test_the_front_door_names_rooms_that_exist():
    import sightline

    assert {f"sightline.{room}" for room in sightline._ROOMS.values()} <= set(MODULES)
    for name in sightline.__all__:
        assert getattr(sightline, name) is not None
    assert set(dir(sightline)) == set(sightline.__all__)
    with pytest.raises(AttributeError, match="module 'sightline' has no attribute 'fitt'; it has "):
        sightline.fitt  # noqa: B018


def test_no_circles():
    def module(name: str) -> str | None:
        return name if name in MODULES else name.rpartition(".")[0] if name.rpartition(".")[0] in MODULES else None

    graph = {name: {module(other) for other in imports(path)} - {None} for name, path in MODULES.items()}
    graph = {name: others - {name} for name, others in graph.items()}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


def test_other_peoples_packages_are_declared():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*declared["dependencies"], *sum(declared["optional-dependencies"].values(), [])]
    known = {re.match(r"[\w-]+", line)[0].replace("-", "_") for line in needed} | set(sys.stdlib_module_names)
    for path in LIBRARY:
        for name in imports(path):
            top = name.split(".")[0]
            assert top in known | {"sightline", "transformers"}, f"{name_of(path)} imports {top}"
            room = name_of(path).split(".")[1:2]
            if room and room[0] in CORE:
                besides = BESIDES.get(name_of(path), set())
                assert top in {*sys.stdlib_module_names, "torch", "numpy", "sightline", *besides}, (
                    f"{room[0]} imports {top}"
                )
            assert top != "transformers" or room == ["huggingface"], f"{room} imports transformers"


def test_importing_is_light():
    script = (
        "import sys; from sightline import Pattern, Sequences, build; "
        f"print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == []


@files
def test_a_file_says_why_it_exists_and_is_short(path):
    docstring = ast.get_docstring(TREES[path])
    assert docstring, "open the file with a docstring"
    assert docstring.split("\n")[0].rstrip().endswith((".", ":", ",")) or "." in docstring
    assert len(path.read_text("utf-8").splitlines()) <= 400
    for node in ast.walk(TREES[path]):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno < 70, f"{node.name} has more than 70 lines"


@files
def test_nothing_that_runs_code_on_loading(path):
    if path.name == "test_travel.py":  # which tries that users who pickle a model of theirs get it back
        return
    assert not {name.split(".")[0] for name in imports(path)} & NEVER
    calls = {ast.unparse(node.func) for node in ast.walk(TREES[path]) if isinstance(node, ast.Call)}
    assert not calls & {"torch.load", "torch.save", "torch.jit.load", "pickle.load"}
    for node in ast.walk(TREES[path]):
        assert not (isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) == "True")


@library
def test_arguments_are_not_asserted(path):
    assert not [node.lineno for node in ast.walk(TREES[path]) if isinstance(node, ast.Assert)]


FRAMES = {"_getframe", "_current_frames", "currentframe", "f_back", "f_locals"}


@library
def test_no_running_frame_is_read(path):
    """But for one function, which catches packed input that a model drops before its attention."""
    assert not imports(path) & {f"{module}.{name}" for module in ("sys", "inspect") for name in FRAMES}
    for top in TREES[path].body:
        names = {node.attr for node in ast.walk(top) if isinstance(node, ast.Attribute)}
        if (name_of(path), getattr(top, "name", "")) != ("sightline.huggingface.caller_packing", "outermost_call"):
            assert not names & FRAMES, f"line {top.lineno}"


@files
def test_nothing_is_left_for_later(path):
    words = [
        word for word in ("TO" + "DO", "FIX" + "ME", "X" * 3) if re.search(rf"\b{word}\b", path.read_text("utf-8"))
    ]
    assert not words


def test_each_folder_is_earned():
    names = {path.stem for path in LIBRARY}
    assert not names & {"utils", "helpers", "common", "misc", "registry", "base"}
    for folder in {path.parent for path in LIBRARY} - {ROOT / "sightline"}:
        assert (folder / "__init__.py").exists() and len(list(folder.glob("*.py"))) >= 2
