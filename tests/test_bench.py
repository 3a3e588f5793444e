"""The table of `make bench` in the README; nothing is measured here."""

from bench import MARKERS, ROOT, rewrite

BEGIN, END = MARKERS


def test_the_readme_has_a_place_for_the_table():
    text = (ROOT / "README.md").read_text("utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    new = rewrite(text, "| a |\n")
    assert new == f"{before}{BEGIN}\n| a |\n\n{END}{after}"
    assert rewrite(new, "| a |\n") == new


def test_a_text_without_markers_stays_as_it_is():
    assert rewrite("nothing", "| a |") == "nothing"
