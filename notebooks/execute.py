"""Run the notebooks headless, each in a fresh kernel, or open them in JupyterLab.

    python notebooks/execute.py run       the main job: pages, figures, a table
    python notebooks/execute.py refresh   store outputs in place, redraw figures/
    python notebooks/execute.py lab       open JupyterLab

Cells tagged `unstored` show what differs from run to run, such as seconds: their
outputs are dropped when a notebook is stored.
"""

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import nbformat
from latex2mathml.converter import convert
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

import dogtl
from dogtl.base import choose
from dogtl.store import find_home

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
# nbconvert's template, without the scripts that its pages would load from the web
OFFLINE = "{% extends 'lab/index.html.j2' %}" + "".join(
    f"{{% block {block} %}}{{% endblock %}}"
    for block in ("html_head_js", "html_head_js_mathjax", "html_head_js_mermaidjs")
)
GALLERY = """# The figures

Made by `make refresh` from the notebooks, on the kennel and the toy module. PDF is for
print, PNG (300 dpi) for slides. The widths are those of a text column (3.4 inches) and
of a page (7 inches), so include them at their own size. The numbers of most lie beside
them as CSV. The LaTeX of each needs the package graphicx; in a text of two columns a
figure as wide as the page wants `figure*`.
"""


def kernel_environment(figures: Path | None = None) -> dict[str, str]:
    """Return the variables for kernels, which run in this folder: absolute paths."""
    chosen = {
        "DOGTL_PHOTOS": choose(None, "DOGTL_PHOTOS", "kennel"),
        "DOGTL_MODULE": choose(None, "DOGTL_MODULE", "toy"),
        "DOGTL_HOME": str(find_home()),
    }
    if "DOGTL_DOGS_URL" in os.environ:
        chosen["DOGTL_DOGS_URL"] = choose(None, "DOGTL_DOGS_URL", "")
    if os.environ.get("DOGTL_STYLE"):
        chosen["DOGTL_STYLE"] = os.path.abspath(os.environ["DOGTL_STYLE"])
    if figures:
        chosen["DOGTL_FIGURES"] = str(figures)
    return os.environ | chosen


def execute(file: Path, figures: Path) -> nbformat.NotebookNode:
    """Run one notebook from top to bottom in its own folder; return it with outputs.

    Raises CellExecutionError at the first cell that fails.
    """
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
    client.execute(env=kernel_environment(figures) | {"TQDM_DISABLE": "1"})
    return notebook


class PageRenderer(IPythonRenderer):
    """Markdown to HTML with formulas as MathML, which browsers draw by themselves."""

    def block_math(self, body: str) -> str:
        return convert(body, display="block")

    def inline_math(self, body: str) -> str:
        return convert(body)


def render(markdown: str) -> str:
    """Return a cell's Markdown as HTML; its figures are the ones of this run."""
    html = MarkdownWithMath(renderer=PageRenderer(escape=False)).render(markdown)
    return html.replace('src="../figures/', 'src="figures/')


def page_of(notebook: nbformat.NotebookNode, title: str) -> str:
    """Return a notebook as one HTML page that asks nothing of the network."""
    exporter = HTMLExporter(raw_template=OFFLINE)
    exporter.register_filter("markdown2html", render)
    return exporter.from_notebook_node(notebook, {"metadata": {"name": title}})[0]


def run() -> None:
    """The main job: all notebooks as HTML, their figures, and a table of results."""
    folder = find_home() / "run"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "figures").mkdir(parents=True)
    for number, file in enumerate(NOTEBOOKS, start=1):
        start = time.perf_counter()
        notebook = execute(file, folder / "figures")
        page = page_of(notebook, file.stem)
        (folder / f"{file.stem}.html").write_text(page, "utf-8")
        seconds = time.perf_counter() - start
        print(f"[{number}/{len(NOTEBOOKS)}] {file.stem}  {seconds:.0f} s", flush=True)
    photos, module = dogtl.load_photos(), dogtl.load_module()
    squares = dogtl.square(photos, module.size)
    bottlenecks = dogtl.extract(squares, module)
    evaluation = dogtl.evaluate(dogtl.train(bottlenecks), bottlenecks["test"])
    print(f"pages     {folder}/*.html, figures in {folder / 'figures'}")
    print(f"photos    {photos.name}: {squares}")
    print(f"module    {module.name}: {module}")
    print(evaluation)


def refresh() -> None:
    """Store every notebook's outputs in place; draw the project's own figures."""
    chosen = kernel_environment()
    if (chosen["DOGTL_PHOTOS"], chosen["DOGTL_MODULE"]) != ("kennel", "toy"):
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


def lab() -> None:
    """Open JupyterLab at the top of the project."""
    command = [sys.executable, "-m", "jupyterlab", f"--notebook-dir={HERE.parent}"]
    sys.exit(subprocess.run(command, env=kernel_environment(), check=False).returncode)


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
        alt = caption
        if (figures / f"{name}.csv").exists():
            table = dogtl.figures.read_table(figures / f"{name}.csv")
            alt = dogtl.figures.alt_text(name, table, caption)
        in_latex = re.sub(r"([%&#_$])", r"\\\1", caption).replace(" \\%", r"\,\%")
        parts.append(
            f"## {name}\n\n![{alt}]({name}.png)\n\n{caption}\n\n"
            f"{', '.join(links)}; from [{maker}](../notebooks/{maker}.ipynb)\n\n"
            + LATEX.format(name=name, caption=in_latex)
        )
    (figures / "README.md").write_text("\n".join(parts), "utf-8")


def made_in(source: str, name: str) -> bool:
    """Return whether a notebook's text publishes or saves a figure of that name."""
    return bool(re.search(rf'publish\([\w.]*figures\.{name},|\\"{name}\\"\)', source))


if __name__ == "__main__":
    try:
        {"run": run, "refresh": refresh, "lab": lab}[sys.argv[1]]()
    except (dogtl.DogtlError, CellExecutionError) as error:
        sys.exit(f"{error}")
