"""Sphinx' settings for the pages: the lessons, the glossary and the gallery.

`notebooks/execute.py` lays out what it reads, and calls it. Nothing in the pages asks
the network for anything: formulas are MathML, which browsers draw by themselves.
"""

from docutils import nodes
from latex2mathml.converter import convert

project = html_title = "dogtl"
extensions = ["myst_nb"]
exclude_patterns = ["README.md"]  # the pages include parts of it
nb_execution_mode = "off"
nb_ipywidgets_js = {}  # widgets need a kernel, so their scripts stay away
myst_enable_extensions = ["dollarmath", "html_image"]
html_theme = "furo"
templates_path = ["."]  # search.html, with a heading
html_static_path = ["pages.css"]
html_css_files = ["pages.css"]
html_use_index = html_copy_source = html_show_copyright = False
html_math_renderer = "mathml"


def inline_math(visitor, node: nodes.math) -> None:
    """Write a formula that stands in a line."""
    visitor.body.append(convert(node.astext()))
    raise nodes.SkipNode


def block_math(visitor, node: nodes.math_block) -> None:
    """Write a formula with a line of its own."""
    formula = convert(node.astext(), display="block")
    visitor.body.append(f'<div class="formula">{formula}</div>\n')
    raise nodes.SkipNode


def setup(app) -> None:
    """Let Sphinx write formulas with the two functions above."""
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))
