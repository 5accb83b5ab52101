"""Compiles one model and prints seconds and peak memory as JSON; `bench.py` runs it in a fresh process."""

import json
import sys
import time
from pathlib import Path

import onnxc

started = time.perf_counter()
onnxc.compile(sys.argv[1], target="cpu")
seconds = time.perf_counter() - started
# Not `ru_maxrss`: a new process begins with that of the one that started it.
peak = next(line for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
print(json.dumps({"seconds": seconds, "peak_mib": int(peak.split()[1]) / 1024}))
