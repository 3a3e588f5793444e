"""Run the notebooks headless, each in a fresh kernel: `run` for the main job,
`refresh` to store their outputs in place and to redraw the project's own figures.

Cells tagged `unstored` show what differs from run to run, such as seconds: their
outputs are dropped when a notebook is stored.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
import tomllib
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter

from dogtl import DogtlError, choose, evaluate, extract, square

HERE = Path(__file__).resolve().parent
NOTEBOOKS = sorted(HERE.glob("0*.ipynb"))
LATEX = """<details><summary>LaTeX</summary>

```latex
\\begin{{figure}}
  \\centering
  \\includegraphics{{figures/{name}.pdf}}
  \\caption{{{caption}}}
  \\label{{fig:{name}}}
\\end{{figure}}
```
</details>
"""
GALLERY = """# The figures

Made by `make refresh` from the notebooks, on the kennel and the toy module. PDF is for
print, PNG (300 dpi) for slides. The widths are those of a text column (3.4 inches) and
of a page (7 inches), so include them at their own size. The numbers of most lie beside
them as CSV. The LaTeX of each needs the package graphicx; in a text of two columns a
figure as wide as the page wants `figure*`.
"""


def execute(file: Path, figures: Path) -> nbformat.NotebookNode:
    """Run one notebook from top to bottom in its own folder; gives it with outputs.

    Raises CellExecutionError at the first cell that fails.
    """
    os.environ.update(DOGTL_FIGURES=str(figures), TQDM_DISABLE="1")
    notebook = nbformat.read(file, as_version=4)
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=600,
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(HERE)}},
    )
    client.execute()
    return notebook


def run() -> None:
    """The main job: all notebooks as HTML, their figures, and a table of results."""
    choice = choose()
    folder = choice.home / "run"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "figures").mkdir(parents=True)
    for number, file in enumerate(NOTEBOOKS, start=1):
        start = time.perf_counter()
        notebook = execute(file, folder / "figures")
        page, _ = HTMLExporter().from_notebook_node(notebook)
        (folder / f"{file.stem}.html").write_text(page, "utf-8")
        seconds = time.perf_counter() - start
        print(f"[{number}/{len(NOTEBOOKS)}] {file.stem}  {seconds:.0f} s", flush=True)
    vectors = extract(choice)
    result = evaluate(choice, vectors)
    print(f"pages     {folder}/*.html, figures in {folder / 'figures'}")
    print(f"photos    {choice.photos}: {square(choice)}")
    print(f"breeds    {len(result.breeds)}")
    print(f"module    {choice.module}")
    print(f"features  {vectors['test'].features.shape[1]}")
    print(result)


def refresh() -> None:
    """Store every notebook's outputs in place; draw the project's own figures."""
    choice = choose()
    if (choice.photos, choice.module) != ("kennel", "toy"):
        sys.exit("refresh is for the kennel and the toy module: unset DOGTL_*")
    figures = HERE.parent / "figures"
    for file in NOTEBOOKS:
        notebook = execute(file, figures)
        for cell in notebook.cells:
            if "unstored" in cell.metadata.get("tags", []):
                cell.outputs = []
        notebook.metadata = {
            "kernelspec": notebook.metadata.kernelspec,
            "language_info": {"name": "python"},
        }
        nbformat.write(notebook, file)
        print(f"stored {file.name}", flush=True)
    write_gallery(figures)


def write_gallery(figures: Path) -> None:
    """Write figures/README.md: each figure with its caption, numbers and LaTeX."""
    captions = tomllib.loads((figures / "captions.toml").read_text("utf-8"))
    sources = {file.stem: file.read_text("utf-8") for file in NOTEBOOKS}
    parts = [GALLERY]
    for name, caption in captions.items():
        maker = next(stem for stem, text in sources.items() if made_in(text, name))
        links = [f"[PDF]({name}.pdf)", f"[PNG, 300 dpi]({name}.png)"]
        if (figures / f"{name}.csv").exists():
            links.append(f"[numbers]({name}.csv)")
        in_latex = re.sub(r"([%&#_$])", r"\\\1", caption).replace(" \\%", r"\,\%")
        parts.append(
            f"## {name}\n\n![{caption}]({name}.png)\n\n{caption}\n\n"
            f"{', '.join(links)}; from [{maker}](../notebooks/{maker}.ipynb)\n\n"
            + LATEX.format(name=name, caption=in_latex)
        )
    (figures / "README.md").write_text("\n".join(parts), "utf-8")


def made_in(source: str, name: str) -> bool:
    """Whether a notebook's text publishes or saves a figure of that name."""
    return f"figures.publish(figures.{name}," in source or f'\\"{name}\\", ' in source


if __name__ == "__main__":
    try:
        {"run": run, "refresh": refresh}[sys.argv[1]]()
    except (DogtlError, CellExecutionError) as error:
        sys.exit(f"{error}")
