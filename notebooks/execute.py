"""Run the notebooks headless, each in a fresh kernel, or open them in JupyterLab.

    python notebooks/execute.py run       the main job: pages, figures, a table
    python notebooks/execute.py pages     the lessons as they're stored, as pages
    python notebooks/execute.py refresh   store outputs in place, redraw figures/
    python notebooks/execute.py lab       open JupyterLab, with options of its own

Cells tagged `unstored` show what differs from run to run, such as seconds: their
outputs are dropped when a notebook is stored.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from html import unescape
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

import dogtl
from dogtl.base import choose, choose_module, choose_photos
from dogtl.store import choice_name, find_home
from dogtl.terminal import markdown, markdown_code

HERE = Path(__file__).resolve().parent
FIGURES = HERE.parent / "figures"
NOTEBOOKS = sorted(HERE.glob("0*.ipynb"))
IMAGE = re.compile(r'<img width="(\d+)" alt="([^"]*)" src="data:([^;]+);base64,(.+)">')
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

Made by the notebooks, from the photos `{photos}` and the module `{module}`. PDF is for
print, PNG (300 dpi) for slides. The widths are those of a text column (3.4 inches) and
of a page (7 inches), so include them at their own size. The numbers of most lie beside
them as CSV. The LaTeX of each needs the package graphicx; in a text of two columns a
figure as wide as the page wants `figure*`.
"""


def kernel_environment(figures: Path | None = None) -> dict[str, str]:
    """Return the variables for kernels, which run in this folder: absolute paths."""
    chosen = {
        "DOGTL_PHOTOS": choose_photos(None),
        "DOGTL_MODULE": choose_module(None),
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
        store_widget_state=False,  # a page has no kernel that could draw widgets
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(HERE)}},
    )
    # several threads of OpenBLAS wait for each other at the lessons' small matrices
    quick = {"OPENBLAS_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    client.execute(env=kernel_environment(figures) | quick)
    return notebook


def run() -> None:
    """The main job: all notebooks as pages, their figures, and a table of results."""
    folder = find_home() / "run" / choice_name()
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "figures").mkdir(parents=True)
    done = {}
    for number, file in enumerate(NOTEBOOKS, start=1):
        start = time.perf_counter()
        done[file.stem] = execute(file, folder / "figures")
        seconds = time.perf_counter() - start
        print(f"[{number}/{len(NOTEBOOKS)}] {file.stem}  {seconds:.0f} s", flush=True)
    write_pages(done, folder / "figures", folder)
    photos, module = dogtl.load_photos(), dogtl.load_module()
    squares = dogtl.square(photos, module.size)
    bottlenecks = dogtl.extract(squares, module)
    evaluation = dogtl.evaluate(dogtl.train(bottlenecks), bottlenecks["test"])
    print(f"pages     {folder / 'index.html'}, figures in {folder / 'figures'}")
    print(f"photos    {photos.name}: {squares}")
    print(f"module    {module.name}: {module}")
    print(evaluation)


def pages() -> None:
    """Write the lessons as they're stored, with glossary and gallery, as pages."""
    for variable in ("DOGTL_PHOTOS", "DOGTL_MODULE"):
        os.environ.pop(variable, None)  # what's stored comes from the kennel
    folder = find_home() / "pages"
    shutil.rmtree(folder, ignore_errors=True)
    stored = {file.stem: nbformat.read(file, as_version=4) for file in NOTEBOOKS}
    write_pages(stored, FIGURES, folder)
    print(f"pages     {folder / 'index.html'}")


def write_pages(
    notebooks: dict[str, nbformat.NotebookNode], figures: Path, folder: Path
) -> None:
    """Write notebooks as pages, with those figures where they were drawn anew."""
    with TemporaryDirectory() as temporary:
        source = Path(temporary)
        shutil.copytree(HERE / "site", source, dirs_exist_ok=True)
        shutil.copytree(figures, source / "figures")
        (source / "figures" / "README.md").write_text(gallery(figures), "utf-8")
        # what the prose shows is about the kennel, whatever photos were chosen
        pages = shutil.ignore_patterns("*.md")
        shutil.copytree(FIGURES, source / "stored", ignore=pages)
        readme = (HERE.parent / "README.md").read_text("utf-8")
        (source / "README.md").write_text(show_stored(readme), "utf-8")
        (source / "notebooks").mkdir()
        for file in HERE.glob("*.md"):
            shutil.copy(file, source / "notebooks")
        for stem, notebook in notebooks.items():
            describe_images(notebook, figures)
            for cell in notebook.cells:
                if cell.cell_type == "markdown":
                    cell.source = show_stored(cell.source)
            nbformat.write(notebook, source / "notebooks" / f"{stem}.ipynb")
        command = [sys.executable, "-m", "sphinx", "-q", "-d", source / "doctrees"]
        if subprocess.run([*command, source, folder], check=False).returncode:
            sys.exit("the pages couldn't be written: see the lines above")


def show_stored(text: str) -> str:
    """Let a text on the pages show the project's own figures, which it describes."""
    return re.sub(r"figures/(\w+\.png)", r"stored/\1", text)


def describe_images(notebook: nbformat.NotebookNode, figures: Path) -> None:
    """Give each figure on a page a file, and its caption as alternative text."""
    captions = read_captions()
    for cell in notebook.cells:
        named = [name for name in captions if made_in(json.dumps(cell.source), name)]
        for output in cell.get("outputs", []):
            shown = IMAGE.match(output.get("data", {}).get("text/html", ""))
            if shown:
                width, alt, kind, pixels = shown.groups()
                alt = describe(named[0], figures) if named else unescape(alt)
                output["data"] = {kind: pixels}
                cell.metadata["mystnb"] = {"image": {"alt": alt, "width": width}}


def describe(name: str, figures: Path) -> str:
    """Return a saved figure's alternative text: its caption and its main number."""
    caption, table = read_captions()[name], figures / f"{name}.csv"
    if not table.exists():
        return caption
    return dogtl.figures.alt_text(name, dogtl.figures.read_table(table), caption)


def refresh() -> None:
    """Store every notebook's outputs in place; draw the project's own figures."""
    if not is_default():
        sys.exit("refresh is for the kennel and the toy module: unset DOGTL_*")
    for file in NOTEBOOKS:
        notebook = execute(file, FIGURES)
        for cell in notebook.cells:
            if "unstored" in cell.metadata.get("tags", []):
                cell.outputs = []
        notebook.metadata = {
            "kernelspec": notebook.metadata.kernelspec,
            "language_info": stored_language(file, notebook.metadata.language_info),
        }
        nbformat.write(notebook, file)
        print(f"stored {file.name}", flush=True)
    (FIGURES / "README.md").write_text(gallery(FIGURES), "utf-8")


def stored_language(file: Path, fresh: dict) -> dict:
    """Return the language as it's stored, or a fresh one: Pythons differ in theirs."""
    stored = nbformat.read(file, as_version=4).metadata.get("language_info", {})
    return stored if "version" in stored else fresh


def keep_language(model: dict, path: str, contents_manager, **_) -> None:
    """Before JupyterLab saves: leave a notebook that wasn't changed as it was."""
    file = Path(contents_manager.root_dir, path)
    if model["type"] == "notebook" and model.get("content") and file.exists():
        metadata = model["content"]["metadata"]
        fresh = metadata.get("language_info", {})
        metadata["language_info"] = stored_language(file, fresh)


def lab() -> None:
    """Open JupyterLab at the top of the project; what follows `lab` goes to it."""
    command = [sys.executable, "-m", "jupyterlab", f"--notebook-dir={HERE.parent}"]
    command += ["--ContentsManager.pre_save_hook=execute.keep_language"]
    larger = {"websocket_max_message_size": 100_000_000}  # for photos over 10 MB
    command += [f"--ServerApp.tornado_settings={larger}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command += ["--allow-root"]  # in a container
    command += sys.argv[2:]
    environment = kernel_environment()
    sys.exit(subprocess.run(command, cwd=HERE, env=environment, check=False).returncode)


def is_default() -> bool:
    """Return whether the chosen photos and module are the kennel and the toy."""
    chosen = kernel_environment()
    return (chosen["DOGTL_PHOTOS"], chosen["DOGTL_MODULE"]) == ("kennel", "toy")


def read_captions() -> dict[str, str]:
    """Return the caption of each figure that the notebooks save.

    Some say more of the kennel and the toy module than would hold for others.
    """
    captions = tomllib.loads((FIGURES / "captions.toml").read_text("utf-8"))
    special = captions.pop("kennel_and_toy")
    return captions | special if is_default() else captions


def gallery(figures: Path) -> str:
    """Return figures/README.md: each figure with its caption, numbers and LaTeX."""
    sources = {file.stem: file.read_text("utf-8") for file in NOTEBOOKS}
    chosen = kernel_environment()
    names = [Path(chosen[f"DOGTL_{what}"]).name for what in ("PHOTOS", "MODULE")]
    photos, module = map(markdown_code, names)
    parts = [GALLERY.format(photos=photos, module=module)]
    for name, caption in read_captions().items():
        if not (figures / f"{name}.png").exists():
            continue  # other photos: not every notebook draws every figure for them
        maker = next(stem for stem, text in sources.items() if made_in(text, name))
        links = [f"[PDF]({name}.pdf)", f"[PNG, 300 dpi]({name}.png)"]
        if (figures / f"{name}.csv").exists():
            links.append(f"[numbers]({name}.csv)")
        alt = markdown(describe(name, figures))
        in_latex = re.sub(r"([%&#_$])", r"\\\1", caption).replace(" \\%", r"\,\%")
        parts.append(
            f"## {name}\n\n![{alt}]({name}.png)\n\n{caption}\n\n"
            f"{', '.join(links)}; from [{maker}](../notebooks/{maker}.ipynb)\n\n"
            + LATEX.format(name=name, caption=in_latex)
        )
    return "\n".join(parts)


def made_in(source: str, name: str) -> bool:
    """Return whether a notebook's text publishes or saves a figure of that name."""
    return bool(re.search(rf'publish\([\w.]*figures\.{name},|\\"{name}\\"\)', source))


if __name__ == "__main__":
    try:
        {"run": run, "pages": pages, "refresh": refresh, "lab": lab}[sys.argv[1]]()
    except (dogtl.DogtlError, CellExecutionError) as error:
        sys.exit(f"{error}")
