"""The lessons in JupyterLab, in a real browser: `make browser`, not `make test`.

Each notebook is opened, saved, run and looked at, as a reader does. Screenshots are
left in the folder `screenshots` of the home.
"""

import os
import platform
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from PIL import Image

import dogtl

playwright = pytest.importorskip("playwright.sync_api", reason="see `make browser`")
ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted(file.name for file in (ROOT / "notebooks").glob("0*.ipynb"))
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
HOME = dogtl.store.find_home().absolute()
SCREENSHOTS = HOME / "screenshots"
MINUTE = 60_000
TRACEBACK = "[data-mime-type$='jupyter.error']"
RAN = """n => document.querySelector("[data-mime-type$='jupyter.error']") ||
    [...document.querySelectorAll('.jp-InputPrompt')]
    .some(prompt => prompt.textContent.trim() == `[${n}]:`)
"""  # innerText would be empty for cells out of view
IMAGES = """[...document.querySelectorAll('.jp-Notebook img')]
    .filter(image => image.complete && image.naturalWidth).length"""

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason=f"skipped: there is no browser ({', '.join(NAMES)})"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of what JupyterLab may write to."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("notebooks", "figures"):
        shutil.copytree(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def lab(project) -> Iterator[str]:
    """JupyterLab as `make lab` starts it; its address, with %s for a file."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    token = secrets.token_hex()
    command = [sys.executable, project / "notebooks" / "execute.py", "lab"]
    command += ["--no-browser", f"--port={port}", "--ServerApp.port_retries=0"]
    command += [f"--IdentityProvider.token={token}"]
    environment = os.environ | {"DOGTL_HOME": str(HOME), "TQDM_DISABLE": "0"}
    address = f"http://127.0.0.1:{port}/lab/tree/%s?token={token}"
    with (project / "lab.log").open("wb") as log:
        server = subprocess.Popen(
            command, env=environment, stderr=log, start_new_session=True
        )
    try:
        for _ in range(60):
            time.sleep(1)
            try:
                urllib.request.urlopen(address % "").close()
                break
            except OSError:
                assert server.poll() is None, (project / "lab.log").read_text()
        yield address
    finally:
        os.killpg(server.pid, 15)
        server.wait()


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """A browser without a window."""
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as started:
        yield started.chromium.launch(executable_path=CHROMIUM, args=options)


@pytest.fixture(params=NOTEBOOKS)
def opened(request, project, lab, browser) -> Iterator:
    """A notebook's page, its kernel ready, and the notebook's file."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.goto(lab % f"notebooks/{request.param}" + "&reset")
    idle = ".jp-Notebook-ExecutionIndicator[data-status=idle]"
    page.wait_for_selector(f"{idle}", timeout=2 * MINUTE)
    page.wait_for_selector("text=Python 3 (ipykernel) | Idle", timeout=MINUTE)
    yield page, project / "notebooks" / request.param
    page.close()


def save(page, file: Path) -> None:
    """Save the notebook that is open, and wait until it's written."""
    before = file.stat().st_mtime_ns
    page.keyboard.press("Control+s")
    for _ in range(100):
        page.wait_for_timeout(100)
        whole = file.read_bytes().endswith(b"}\n")  # it's emptied first
        if whole and file.stat().st_mtime_ns != before:
            return
    raise AssertionError(f"{file.name} wasn't saved")


def run_all(page, file: Path) -> nbformat.NotebookNode:
    """Restart the kernel, run every cell, save; return the notebook."""
    cells = nbformat.read(file, as_version=4).cells
    n_code = sum(cell.cell_type == "code" for cell in cells)
    page.click(".lm-MenuBar-item:has-text('Kernel')")
    page.click(".lm-Menu-item:has-text('Restart Kernel and Run All Cells')")
    page.click(".jp-Dialog .jp-mod-accept")
    page.wait_for_function("!document.querySelector('.jp-Dialog')")
    page.wait_for_selector(".jp-InputPrompt:has-text('[*]:')")  # old ones are gone
    page.wait_for_function(RAN, arg=n_code, timeout=10 * MINUTE)
    save(page, file)
    return nbformat.read(file, as_version=4)


def look(page, file: Path) -> int:
    """Take a picture of the whole notebook; return how many images are on the page."""
    page.set_viewport_size({"width": 1200, "height": 16_000})  # no browser draws more
    page.locator(".jp-Cell").first.scroll_into_view_if_needed()
    page.wait_for_timeout(3000)
    end = page.locator(".jp-Cell").last.bounding_box()
    height = min(16_000, end["y"] + end["height"] + 20)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    clip = {"x": 0, "y": 0, "width": 1200, "height": height}
    page.screenshot(path=SCREENSHOTS / f"{file.stem}.png", clip=clip)
    return page.evaluate(IMAGES)


def upload(page, file: Path, answer: str) -> None:
    """Give the page's upload button a file; wait for the answer under the button."""
    button = page.locator(".widget-upload")
    with page.expect_file_chooser() as chooser:
        button.click()
    chooser.value.set_files(file)
    below = page.locator(".widget-vbox", has=button)
    below.locator(answer).wait_for(timeout=MINUTE)
    assert not page.locator(TRACEBACK).count(), below.inner_text()
    below.scroll_into_view_if_needed()
    page.screenshot(path=SCREENSHOTS / f"upload_{file.stem}.png")


def is_figure(output: dict) -> bool:
    """Whether an output is an image."""
    return output.get("data", {}).get("text/html", "").startswith("<img")


def test_a_reader_opens_saves_runs_and_sees_it(opened):
    page, file = opened
    stored = file.read_bytes()
    if f'"version": "{platform.python_version()}"'.encode() in stored:
        assert not page.locator(".jp-mod-dirty").count(), "opened, it counts as changed"
    save(page, file)
    assert file.read_bytes() == stored, "saved unchanged, it differs"

    notebook = run_all(page, file)
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    for output in outputs:
        assert output.output_type != "error", output.evalue
        assert output.get("name") != "stderr", output.text
    opening = sum(cell.source.count("<img") for cell in notebook.cells)
    assert look(page, file) == sum(map(is_figure, outputs)) + opening
    if file.name.startswith("05"):
        photo = dogtl.load_photos("kennel", HOME).paths["test"][0]
        with Image.open(photo) as small:  # 11 MB, more than a server takes by itself
            large = small.resize((4 * small.width, 4 * small.height))
        large.save(file.with_name("photo.bmp"))
        upload(page, file.with_name("photo.bmp"), "img[alt*='breed Afghan hound']")
        text = file.with_name("notes.txt")
        text.write_text("no photo")
        upload(page, text, "text=notes.txt: cannot identify image file")
