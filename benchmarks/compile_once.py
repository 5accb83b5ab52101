"""Compiles one model and prints seconds and peak memory as JSON; `bench.py` runs it in a fresh process."""

import json
import resource
import sys
import time

import onnxc

started = time.perf_counter()
onnxc.compile(sys.argv[1], target="cpu")
seconds = time.perf_counter() - started
print(json.dumps({"seconds": seconds, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
