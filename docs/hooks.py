"""Puts the raw results of benchmarks into the site, so that links to them work without a network."""

from pathlib import Path

from mkdocs.structure.files import File

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"


def on_files(files, config):
    for path in sorted(RESULTS.rglob("*.json")):
        name = f"raw/{path.relative_to(RESULTS).as_posix()}"
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    up = "../" * page.file.src_uri.count("/")
    return markdown.replace(f"]({up}../benchmarks/results/", f"]({up}raw/")
