"""A share of the suite's cases as C, under the sanitizers, compilers and checkers of `strict_c.py`; `pytest --all` takes all of them."""

import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from . import strict_c

HERE = Path(__file__).parent
PARTS = 2
"""For as many processes."""
SHARES = {"c": 160, "c:cortex-m55,steps,separate-weights,smallest-arena,numerics=fixed": 640}
"""One in so many cases, for each target."""
WRONG = """
static int unused(int a) { return a; }
int wrong(long long a) { int b[2]; for (int i = 0; i <= 2; i++) { b[i] = a; } return b[0] / 0; }
"""


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("target", SHARES)
def test_tools_find_nothing(target: str, part: int, takes_all: bool, tmp_path: Path) -> None:
    share = 1 if takes_all else SHARES[target]
    names = [n for n in (HERE / "expected" / "c.txt").read_text().split() if zlib.crc32(n.encode()) % share == 0][part::PARTS]
    assert names
    command = [sys.executable, "-W", "ignore", str(HERE / "strict_c.py"), str(tmp_path), "--target", target]
    done = subprocess.run(command, input="\n".join(names), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stdout.splitlines() if not line.startswith("done ")]


@pytest.mark.parametrize("tool", strict_c.TOOLS)
def test_a_tool_finds_what_is_wrong(tool: str, tmp_path: Path) -> None:
    if not strict_c.is_installed(tool):
        pytest.skip(f"{tool} is not installed")
    (tmp_path / "right").mkdir()
    (tmp_path / "right" / "right.c").write_text("int right(void);\nint right(void) { return 1; }\n")
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "wrong.c").write_text(WRONG)
    found = [name for name, _ in strict_c.findings_of(tool, [tmp_path / "right", tmp_path / "wrong"])]
    assert found == ["wrong"]
