"""The public names: each documented in NumPy's form, and every example runs."""

import dataclasses
import doctest
import inspect
from pathlib import Path

import numpy as np
import pytest

import dogtl

NAMES = sorted(
    name
    for name, value in vars(dogtl).items()
    if getattr(value, "__module__", "").startswith("dogtl.")
)
FUNCTIONS = [name for name in NAMES if inspect.isfunction(getattr(dogtl, name))]
SIX = {"load_photos", "load_module", "square", "extract", "train", "evaluate"}


def test_about_thirty_names_and_the_six_steps():
    assert 25 <= len(NAMES) <= 35 and set(FUNCTIONS) >= SIX


@pytest.mark.parametrize("name", NAMES)
def test_the_first_line_is_a_sentence(name):
    first = inspect.getdoc(getattr(dogtl, name)).splitlines()[0]
    assert first[0].isupper() and first.endswith(".") and len(first) <= 88


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_is_documented(name):
    function = getattr(dogtl, name)
    text, parameters = inspect.getdoc(function), inspect.signature(function).parameters
    assert "Returns\n-------" in text or "Yields\n------" in text
    assert "Examples\n--------" in text
    assert not parameters or "Parameters\n----------" in text
    documented = [line for line in text.splitlines() if " : " in line]
    names = {n for line in documented for n in line.split(" : ")[0].split(", ")}
    assert set(parameters) <= names


@pytest.mark.parametrize("name", NAMES)
def test_every_attribute_is_documented(name):
    value = getattr(dogtl, name)
    if dataclasses.is_dataclass(value):
        fields = {field.name for field in dataclasses.fields(value)}
        texts = [base.__doc__ or "" for base in value.__mro__]
        lines = [line for text in texts for line in text.splitlines() if " : " in line]
        names = {n.strip() for line in lines for n in line.split(" : ")[0].split(",")}
        assert fields <= names


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_examples_run(name, kennel, monkeypatch):
    monkeypatch.setenv("DOGTL_HOME", str(kennel.home))
    function = getattr(dogtl, name)
    globs = {"dogtl": dogtl, "np": np, "Path": Path}
    tests = doctest.DocTestFinder(recurse=False).find(function, name, globs=globs)
    runner, said = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS), []
    for test in tests:
        runner.run(test, out=said.append)
    assert runner.summarize(verbose=False).attempted > 0
    assert not said, "".join(said)
