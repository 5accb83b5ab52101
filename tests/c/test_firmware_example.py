"""The firmware example and the README's way from a model to firmware, run as they are written."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "keyword_spotting"
TOOLS = ("make", "arm-none-eabi-gcc", "qemu-system-arm")
HOST = """#include "board.h"
#include <stdio.h>
void print(const char *text) { fputs(text, stdout); }
void print_number(uint32_t number) { printf("%lu", (unsigned long)number); }
"""


def readme_blocks(language: str) -> list[str]:
    section = (ROOT / "README.md").read_text().partition("## From a model to firmware\n")[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, flags=re.S)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example with its model made and compiled; `bin` holds the commands of the README."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(EXAMPLE, folder / "examples" / "keyword_spotting", ignore=shutil.ignore_patterns("build", "__pycache__"))
    (folder / "bin").mkdir()
    for name, command in (("onnxc", f"{sys.executable} -P -m onnxc.compiler.cli"), ("python", sys.executable)):
        (folder / "bin" / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (folder / "bin" / name).chmod(0o755)
    for line in commands()[:5]:
        assert call(line, folder).returncode == 0
    return folder


def commands() -> list[str]:
    """The lines of the README, those after the first in the folder that it enters."""
    first, *others = [line.partition("#")[0].strip() for line in readme_blocks("sh")[0].splitlines()]
    assert first.startswith("cd ")
    return [first, *(f"{first} && {line}" for line in others)]


def call(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHON": "python"}
    done = subprocess.run(["sh", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr)
    return done


def test_the_readmes_way_ends_in_a_firmware_that_hears(example: Path) -> None:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{missing[0]} is not installed")
    for line in commands()[5:]:
        done = call(line, example)
        assert done.returncode == 0
    right, total = map(int, re.search(r"(\d+) of (\d+) words are right", done.stdout).groups())
    assert total == 40
    assert right >= 36


def test_the_application_hears_on_this_machine_too(example: Path) -> None:
    folder = example / "examples" / "keyword_spotting"
    (folder / "host.c").write_text(HOST)
    sources = "host.c firmware/main.c build/clips.c build/kws/kws.c"
    flags = "-std=c99 -O2 -Wall -Wextra -Werror -Ifirmware -Ibuild -Ibuild/kws"
    assert call(f"cd {folder} && gcc {flags} {sources} -o host -lm", example).returncode == 0
    done = call(f"{folder}/host", example)
    assert done.returncode == 0
    assert int(re.search(r"(\d+) of 40 words", done.stdout).group(1)) >= 36


def test_the_model_of_the_example_is_stable(example: Path) -> None:
    """Its inputs and outputs are codes, and its self-test passes here."""
    folder = example / "examples" / "keyword_spotting" / "build" / "kws"
    header = (folder / "kws.h").read_text()
    assert "KWS_IN_FEATURES_SCALE" in header
    assert "KWS_OUT_SCORES_ZERO_POINT" in header
    main = '#include "kws_selftest.h"\n#include "kws.h"\nstatic int64_t arena[KWS_ARENA_BYTES / 8 + 1];\n'
    main += "int main(void) { return -kws_selftest(arena); }\n"
    (example / "selftest.c").write_text(main)
    line = f"gcc -std=c99 -O2 -I{folder} selftest.c {folder}/kws.c {folder}/kws_selftest.c -o selftest -lm && ./selftest"
    assert call(line, example).returncode == 0


def test_the_readmes_application_compiles(example: Path) -> None:
    (example / "app.c").write_text(readme_blocks("c")[0])
    folder = example / "examples" / "keyword_spotting" / "build" / "kws"
    assert call(f"gcc -std=c99 -Wall -Wextra -Wconversion -Werror -I{folder} -c app.c", example).returncode == 0


def test_zig_alone_builds_the_firmware(example: Path) -> None:
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("ziglang is not installed")
    if shutil.which("qemu-system-arm") is None or shutil.which("make") is None:
        pytest.skip("qemu-system-arm or make is not installed")
    done = call("cd examples/keyword_spotting && rm -f build/firmware.elf && make zig run", example)
    assert done.returncode == 0
    assert int(re.search(r"(\d+) of 40 words", done.stdout).group(1)) >= 36
