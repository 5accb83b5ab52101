"""The ONNX backend suite: every case that passed must pass; one that newly passes is reported.

`expected/DEVICE.txt` lists the passing cases; `pytest --bless tests/suite` renews it. The C device compiles each case with a C
compiler, so a usual run takes some of them (`--all` and `--bless` take all but real models, whose weights are too much text for
it). The reasons of the cases that fail are in `.pytest_cache/v/onnx-suite/DEVICE-PART` afterwards.
"""

import functools
import queue
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path

import pytest

from onnxc import onnx_backend

HERE = Path(__file__).parent
RUNNER = [sys.executable, "-W", "ignore", str(HERE / "run_cases.py")]
PARTS = 4
SHARE = {"CPU": 1, "C": 24, "CUDA": 32}
WITHOUT = {"C": "real/"}
"""What a device leaves out, by the beginning of the name."""
SECONDS_PER_CASE = 180


def expected_cases(device: str) -> set[str]:
    path = HERE / "expected" / f"{device.lower()}.txt"
    return set(path.read_text().split()) if path.exists() else set()


@functools.cache
def all_names() -> tuple[str, ...]:
    listed = subprocess.run([*RUNNER, "LIST"], capture_output=True, text=True, check=True).stdout.split()
    return tuple(sorted(set(listed)))


def names_of(device: str, part: int) -> list[str]:
    return [name for name in all_names()[part::PARTS] if device not in WITHOUT or not name.startswith(WITHOUT[device])]


def run_cases(device: str, names: list[str]) -> dict[str, str]:
    """Run cases; the result is an empty text for one that passes, else the reason."""
    results: dict[str, str] = {}
    left = names
    while left:
        results |= _run_until_crash(device, left)
        left = [name for name in left if name not in results]
    return results


def _run_until_crash(device: str, names: list[str]) -> dict[str, str]:
    """Run until all are done, or one crashes or hangs. At least one case gets a result."""
    process = subprocess.Popen([*RUNNER, device], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdin is not None
    process.stdin.write("\n".join(names))
    process.stdin.close()
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_pump, args=(process, lines), daemon=True).start()
    results: dict[str, str] = {}
    running, ending = names[0], "crashed before the first case"
    while True:
        try:
            line = lines.get(timeout=SECONDS_PER_CASE)
        except queue.Empty:
            line, ending = None, f"took more than {SECONDS_PER_CASE} s"
        if line is None:
            break
        verdict, name, *reason = line.split(maxsplit=2)
        running, ending = name, "crashed"
        if verdict != "start":
            results[name] = "" if verdict == "pass" else reason[0].strip()
    process.kill()
    process.wait()
    if running not in results:
        results[running] = ending
    return results


def _pump(process: "subprocess.Popen[str]", lines: "queue.Queue[str | None]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(("start ", "pass ", "fail ")):
            lines.put(line)
    lines.put(None)


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("device", list(SHARE))
def test_suite(device: str, part: int, bless: bool, takes_all: bool, cache: pytest.Cache):
    if not onnx_backend.supports_device(device):
        pytest.skip(f"{device} cannot run here")
    names = names_of(device, part)
    if not bless and not takes_all:
        names = [name for name in names if zlib.crc32(name.encode()) % SHARE[device] == 0]
    results = run_cases(device, names)
    passed = {name for name, reason in results.items() if not reason}
    cache.set(f"onnx-suite/{device}-{part}", {name: reason for name, reason in results.items() if reason})
    expected = expected_cases(device)
    if bless:
        renewed = (expected - set(names)) | passed
        (HERE / "expected" / f"{device.lower()}.txt").write_text("".join(f"{name}\n" for name in sorted(renewed)))
        return
    fresh = sorted(passed - expected)
    if fresh:
        warnings.warn(f"{len(fresh)} cases pass now on {device}, renew the list with --bless: {', '.join(fresh[:10])}", stacklevel=1)
    broken = {name: results[name] for name in sorted(expected & set(names)) if results[name]}
    assert not broken, "\n".join(f"{name}: {reason}" for name, reason in broken.items())


def test_a_crash_and_a_failure_are_told_apart(tmp_path, monkeypatch):
    runner = tmp_path / "runner.py"
    runner.write_text(
        "import os, sys\n"
        "for name in sys.stdin.read().split():\n"
        "    print('start', name, flush=True)\n"
        "    if name == 'crash': os.abort()\n"
        "    print(*(['fail', name, 'ValueError: wrong'] if name == 'wrong' else ['pass', name]), flush=True)\n"
    )
    monkeypatch.setattr(sys.modules[__name__], "RUNNER", [sys.executable, str(runner)])
    results = run_cases("CPU", ["a", "crash", "wrong", "b"])
    assert results == {"a": "", "crash": "crashed", "wrong": "ValueError: wrong", "b": ""}
