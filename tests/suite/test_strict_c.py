"""A share of the suite's cases as C, under the sanitizers, compilers and checkers of `strict_c.py`; that script runs all of them."""

import collections
import subprocess
import sys
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from . import strict_c

HERE = Path(__file__).parent
SHARE = 160


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Sequence[str]]:
    """What each tool finds, by its name."""
    names = [n for n in (HERE / "expected" / "c.txt").read_text().split() if zlib.crc32(n.encode()) % SHARE == 0]
    assert len(names) > 5
    command = [sys.executable, "-W", "ignore", str(HERE / "strict_c.py"), str(tmp_path_factory.mktemp("strict"))]
    done = subprocess.run(command, input="\n".join(names), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = collections.defaultdict(list)
    for line in done.stdout.splitlines():
        tool, _, finding = line.partition(" ")
        found[tool].append(finding)
    return found


@pytest.mark.parametrize("tool", ["run", *strict_c.TOOLS])
def test_a_tool_finds_nothing(tool: str, findings: Mapping[str, Sequence[str]]) -> None:
    if tool in strict_c.TOOLS and not strict_c.is_installed(tool):
        pytest.skip(f"{tool} is not installed")
    assert not findings[tool]
