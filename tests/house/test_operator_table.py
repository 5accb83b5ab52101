"""The operator table is whole: every operator of the specification is known, and every known one is compared with something."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from onnxc.compiler.ops.table import INTERNAL, all_rows

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def operator_facts() -> ModuleType:
    """`docs/operator_facts.py`, which the page of operators is made with."""
    spec = importlib.util.spec_from_file_location("operator_facts", DOCS / "operator_facts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_every_operator_of_the_specification_is_known(operator_facts):
    assert operator_facts.uncovered() == []


def test_every_operator_is_compared_with_something(operator_facts):
    keys = [row.key for row in all_rows() if row.domain != INTERNAL]  # those are only parts of others
    assert [key for key in (*keys, *operator_facts.without_row()) if not operator_facts.tests_of(key)] == []


def test_samples_of_random_models_name_operators(operator_facts):
    """A sample that is named like an operator is one: patterns have names with spaces or small letters."""
    keys = {*(row.key for row in all_rows()), *operator_facts.without_row()}
    assert [name for name in operator_facts.sampled_operators() - keys if name[0].isupper() and " " not in name] == []
