"""The pages: the generated ones are current, links lead somewhere, and the tour runs."""

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

from onnxc.compiler.diagnostics import CODES

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
FOLDERS = ("compiler", "passes", "backends")


def test_generated_pages_are_current():
    done = subprocess.run([sys.executable, str(ROOT / "docs" / "generate.py"), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_code_that_is_raised_is_listed_and_the_reverse():
    text = "".join(p.read_text() for f in FOLDERS for p in (ROOT / f).rglob("*.py") if p.name != "diagnostics.py")
    raised = set(re.findall(r"\bE0\d{3}\b", text))
    assert raised <= set(CODES)
    page = (ROOT / "docs" / "errors.md").read_text()
    assert [code for code in CODES if f"| {code} |" not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    targets = [t for t in re.findall(r"\]\(([^)#\s]+)", page.read_text()) if not t.startswith(("http:", "https:"))]
    assert [t for t in targets if not (page.parent / t).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_that_pages_name_exist(page):
    named = re.findall(
        r"`((?:compiler|passes|backends|tests|docs|examples|benchmarks|templates)/[\w./-]+\.(?:py|md|toml|txt|json))`", page.read_text()
    )
    made_by_user = {
        "benchmarks/results/latest.json",
        "docs/benchmarks.md",
        "passes/graph/do_something.py",
        "tests/suite/expected/DEVICE.txt",
    }
    assert sorted({name for name in named if not (ROOT / name).exists()} - made_by_user) == []


def test_the_architecture_names_every_folder():
    page = (ROOT / "docs" / "architecture.md").read_text()
    folders = [p.parent.relative_to(ROOT).as_posix() for f in FOLDERS for p in (ROOT / f).rglob("__init__.py")]
    assert [folder for folder in folders if folder not in page] == []


def test_the_readme_counts_the_cases_that_pass():
    text = (ROOT / "README.md").read_text()
    lists = sorted((ROOT / "tests" / "suite" / "expected").glob("*.txt"))
    assert [p.stem for p in lists if f"{len(p.read_text().split()):,}" not in text] == []


def test_the_tour_runs():
    failed, attempted = doctest.testfile(
        str(ROOT / "docs" / "tour.md"), module_relative=False, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert attempted > 10
    assert failed == 0
