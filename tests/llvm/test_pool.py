"""The thread pool: every iteration exactly once, statuses, many callers, and threads that sleep and end."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from onnxc.backends.llvm import target
from onnxc.backends.llvm.jit import Library, assembly, compile_objects
from onnxc.backends.llvm.pool import CHUNKS, has_pool, pool_module

HOST = target.parse("cpu")
pytestmark = pytest.mark.skipif(not has_pool(HOST), reason="no threads on this system")

# Adds 1 to args[i] for each i of the range; the status is the largest value above 100 that it meets.
TASK_TEXT = """
define i32 @count(ptr %args, i64 %begin, i64 %end) nounwind {
entry:
  %empty = icmp sge i64 %begin, %end
  br i1 %empty, label %done, label %loop
loop:
  %i = phi i64 [ %begin, %entry ], [ %n, %loop ]
  %status = phi i32 [ 0, %entry ], [ %worse, %loop ]
  %at = getelementptr i64, ptr %args, i64 %i
  %old = load i64, ptr %at
  %new = add i64 %old, 1
  store i64 %new, ptr %at
  %above = sub i64 %old, 100
  %above.32 = trunc i64 %above to i32
  %worse = call i32 @llvm.smax.i32(i32 %above.32, i32 %status)
  %n = add i64 %i, 1
  %more = icmp slt i64 %n, %end
  br i1 %more, label %loop, label %done
done:
  %result = phi i32 [ 0, %entry ], [ %worse, %loop ]
  ret i32 %result
}
define i32 @nested(ptr %args, i64 %begin, i64 %end) nounwind {
  %pool = load ptr, ptr %args
  %array = getelementptr i64, ptr %args, i64 1
  %first = getelementptr i64, ptr %array, i64 %begin
  %n = sub i64 %end, %begin
  %status = call i32 @onnxc_parallel(ptr %pool, ptr @count, ptr %first, i64 %n)
  ret i32 %status
}
"""
SYMBOLS = ("onnxc_pool_create", "onnxc_pool_destroy", "onnxc_parallel", "count", "nested")


@pytest.fixture(scope="module")
def code() -> Iterator[dict[str, int]]:
    """Addresses of the pool's functions and the tasks."""
    library = Library(compile_objects([pool_module(HOST) + TASK_TEXT], HOST), HOST)
    yield library.load(SYMBOLS)
    del library


class Pool:
    """The pool as Python calls it."""

    def __init__(self, code: dict[str, int], threads: int) -> None:
        self.code = code
        signature = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
        self.run = signature(code["onnxc_parallel"])
        self.at = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int64)(code["onnxc_pool_create"])(threads)

    def count(self, array: np.ndarray) -> int:
        """Run `count` over an array."""
        return int(self.run(self.at, self.code["count"], array.ctypes.data, len(array)))

    def close(self) -> None:
        """End the threads."""
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self.code["onnxc_pool_destroy"])(self.at)


@pytest.fixture(params=[1, 2, 3, 8])
def pool(code: dict[str, int], request: pytest.FixtureRequest) -> Iterator[Pool]:
    """Pools of several sizes; more threads than cores among them."""
    made = Pool(code, request.param)
    yield made
    made.close()


def test_each_iteration_once(pool: Pool) -> None:
    """Loops of all lengths, the empty one included, one after another without a pause."""
    for n in [*range(40), 1000, 4097] * 10:
        array = np.zeros(n, np.int64)
        assert pool.count(array) == 0
        assert (array == 1).all()


def test_after_sleeping(pool: Pool) -> None:
    """Threads wake up from the kernel's sleep."""
    for pause in [0.0, 0.0001, 0.001, 0.01] * 5:
        time.sleep(pause)
        array = np.zeros(64, np.int64)
        pool.count(array)
        assert (array == 1).all()


def test_the_largest_status_wins(pool: Pool) -> None:
    """Whichever share it comes from, and only for that loop."""
    for position in (0, 31, 63):
        array = np.zeros(64, np.int64)
        array[position], array[5] = 107, 103
        assert pool.count(array) == 7
        assert pool.count(np.zeros(64, np.int64)) == 0


@pytest.mark.parametrize("threads", [2, 3])
def test_a_held_up_thread_is_helped(code: dict[str, int], threads: int) -> None:
    """One iteration waits until all chunks but its own are done: with fixed shares it would wait in vain."""
    n, seen, lock = 64, [0] * 64, threading.Lock()
    chunk = n // (CHUNKS * threads) + 1

    def task(_: int | None, begin: int, end: int) -> int:
        if begin == 0:
            deadline = time.monotonic() + 20
            while sum(seen) < n - chunk and time.monotonic() < deadline:
                time.sleep(0.001)
            if sum(seen) < n - chunk:
                return 1
        with lock:
            for i in range(begin, end):
                seen[i] += 1
        return 0

    pool = Pool(code, threads)
    callback = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(task)
    assert pool.run(pool.at, ctypes.cast(callback, ctypes.c_void_p), None, n) == 0
    assert seen == [1] * n
    pool.close()


def test_many_callers_and_nested_loops(pool: Pool) -> None:
    """Callers that find the pool taken work alone; nothing is lost and nothing hangs."""
    failures: list[int] = []

    def call(seed: int) -> None:
        for k in range(200):
            array = np.zeros(1 + (seed * 37 + k * 11) % 300, np.int64)
            if pool.count(array) != 0 or not (array == 1).all():
                failures.append(k)

    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads) and not failures

    table = np.zeros(101, np.int64)
    table[0] = pool.at or 0
    assert pool.run(pool.at, pool.code["nested"], table.ctypes.data, 100) == 0
    assert (table[1:] == 1).all()


def test_a_null_pool_runs_on_the_caller(code: dict[str, int]) -> None:
    """What a program for one thread passes."""
    none = Pool(code, 1)
    none.close()
    none.at = None
    array = np.zeros(50, np.int64)
    assert none.count(array) == 0 and (array == 1).all()


def test_threads_come_and_go(code: dict[str, int]) -> None:
    """Created and destroyed at once, before or after the threads have slept."""
    before = threading_count()
    for k in range(30):
        pool = Pool(code, 4)
        if k % 3 == 0:
            time.sleep(0.001)
        if k % 2 == 0:
            pool.count(np.zeros(10, np.int64))
        pool.close()
    assert threading_count() <= before  # those of tests before may have ended meanwhile


def threading_count() -> int:
    """Threads of this process, native ones included."""
    import os

    return len(os.listdir("/proc/self/task"))


def test_idle_threads_use_no_time(code: dict[str, int]) -> None:
    """After their short spinning they sleep: the process clock stands nearly still."""
    pool = Pool(code, 3)
    pool.count(np.zeros(100, np.int64))
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.2)
    used = time.process_time() - before
    pool.close()
    assert used < 0.1


@pytest.mark.parametrize("text", ["cpu:aarch64-linux-gnu,cortex-a72", "cpu:riscv64", "cpu:x86-64"])
def test_compiles_for_other_machines(text: str) -> None:
    """The futex and the waiting hint of each."""
    features = target.parse(text)
    assert "onnxc_parallel" in assembly(pool_module(features), features)


TASK = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
SCHEDULER = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)


class Foreign(ctypes.Structure):
    """`onnxc_parallel_for` of the C header."""

    _fields_ = [("zero", ctypes.c_int64), ("run", SCHEDULER), ("context", ctypes.c_void_p)]


@pytest.mark.parametrize("triple", [HOST.triple, "x86_64-unknown-freebsd"])
def test_the_callers_scheduler(triple: str) -> None:
    """It gets its context, the task and the range; its result is that of the loop. Also where there are no threads."""
    text = pool_module(replace(HOST, triple=triple)).replace(triple, HOST.triple)
    library = Library(compile_objects([text + TASK_TEXT], HOST), HOST)
    found = library.load(SYMBOLS)
    given: list[tuple[int, int]] = []

    def run(context: int, task: int, args: int, n: int) -> int:
        given.append((context, n))
        return int(TASK(task)(args, 1, n)) + 7

    array = np.zeros(5, np.int64)
    scheduler = Foreign(0, SCHEDULER(run), 42)
    loop = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 3, ctypes.c_int64)(found["onnxc_parallel"])
    assert loop(ctypes.addressof(scheduler), found["count"], array.ctypes.data, 5) == 7
    assert given == [(42, 5)]
    assert array.tolist() == [0, 1, 1, 1, 1]
    assert loop(None, found["count"], array.ctypes.data, 5) == 0
    assert array.tolist() == [1, 2, 2, 2, 2]


def test_without_threads_no_pool_is_made() -> None:
    """Null, which destroying ignores."""
    triple = "x86_64-unknown-freebsd"
    text = pool_module(replace(HOST, triple=triple)).replace(triple, HOST.triple)
    library = Library(compile_objects([text + TASK_TEXT], HOST), HOST)
    found = library.load(SYMBOLS)
    assert ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int64)(found["onnxc_pool_create"])(4) is None
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(found["onnxc_pool_destroy"])(None)
