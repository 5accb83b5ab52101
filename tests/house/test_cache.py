"""The compile cache hands out what was stored under the very same key, or nothing."""

import multiprocessing
import os
import random

import pytest

from onnxc.compiler.cache import _HEADER_BYTES, Cache, Key, compiler_identity, default_cache, hash_bytes


def key(n: int = 0) -> Key:
    return Key(f"model{n}", {"threads": 2, "bind": {"batch": 1}}, "cpu:x86_64,+avx2", "0.1.0")


def payload(n: int) -> dict[str, bytes]:
    return {"object": bytes([n % 256]) * (100 + n), "plan.json": f"{n}".encode(), "empty": b""}


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(tmp_path / "cache", 1 << 20)


def only_file(cache: Cache):
    (path,) = cache.folder.glob("??/*.onnxc")
    return path


def test_round_trip(cache):
    assert cache.load(key()) is None
    assert cache.store(key(), payload(3))
    assert cache.load(key()) == payload(3)


@pytest.mark.parametrize("surplus", [-1, 0, 1, 40])
def test_entries_of_several_parts(cache, monkeypatch, surplus):
    """Also if the last part is a whole one."""
    monkeypatch.setattr("onnxc.compiler.cache._CHUNK", 64)
    cache.store(key(), {"object": b""})
    length = only_file(cache).stat().st_size - _HEADER_BYTES
    stored = {"object": bytes(range(1, 1 + 64 - length % 64 + 128 + surplus))}
    cache.store(key(), stored)
    assert cache.load(key()) == stored


def test_order_of_options_does_not_matter():
    assert Key("m", {"a": 1, "b": 2}, "cpu", "1").text() == Key("m", {"b": 2, "a": 1}, "cpu", "1").text()


@pytest.mark.parametrize("field", ["model", "target", "compiler"])
def test_every_field_of_the_key_counts(cache, field):
    from dataclasses import replace

    cache.store(key(), payload(1))
    assert cache.load(replace(key(), **{field: "other"})) is None
    assert cache.load(replace(key(), options={"threads": 3})) is None


def test_every_damaged_byte_is_noticed(cache):
    cache.store(key(), {"object": b"code"})
    path = only_file(cache)
    sound = path.read_bytes()
    for at in range(len(sound)):
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 0x41]) + sound[at + 1 :])
        assert cache.load(key()) is None, at
        assert not path.exists(), "a damaged entry is removed"
    for length in range(len(sound)):
        path.write_bytes(sound[:length])
        assert cache.load(key()) is None, length


def test_an_entry_under_a_foreign_name_is_not_used(cache):
    cache.store(key(1), payload(1))
    path = only_file(cache)
    cache.store(key(2), payload(2))
    (other,) = (p for p in cache.folder.glob("??/*.onnxc") if p != path)
    path.write_bytes(other.read_bytes())
    assert cache.load(key(1)) is None
    assert cache.load(key(2)) == payload(2)


def test_the_least_recently_used_entries_go_first(tmp_path):
    cache = Cache(tmp_path, 5000)
    for n in range(4):
        assert cache.store(key(n), {"object": bytes(1000)})
        os.utime(cache._path(key(n)), (n + 1, n + 1))
    assert cache.load(key(0)) is not None, "now the most recently used"
    cache.store(key(4), {"object": bytes(1000)})
    assert [n for n in range(5) if cache.load(key(n)) is not None] == [0, 2, 3, 4]


def test_an_entry_beyond_the_limit_is_not_stored(tmp_path):
    assert not Cache(tmp_path, 100).store(key(), {"object": bytes(1000)})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file", 1 << 20)
    assert cache.store(key(), payload(0)) is False
    assert cache.load(key()) is None


def _hammer(folder, seed: int) -> int:
    rng, cache, wrong = random.Random(seed), Cache(folder, 4000), 0
    for _ in range(150):
        n = rng.randrange(8)
        found = cache.load(key(n))
        wrong += found is not None and found != payload(n)
        cache.store(key(n), payload(n))
        for path in rng.sample(sorted(folder.glob("??/*.onnxc")), 1) if rng.random() < 0.2 else ():
            try:
                path.write_bytes(path.read_bytes()[: rng.randrange(200)])
            except OSError:
                continue
    return wrong


def test_processes_share_a_folder(tmp_path):
    folder = tmp_path / "cache"
    Cache(folder, 4000).store(key(0), payload(0))
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert pool.starmap(_hammer, [(folder, seed) for seed in range(4)]) == [0] * 4
    assert not list(folder.rglob(".*")), "no temporary file is left"


def test_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("ONNXC_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("ONNXC_CACHE_MIB", "3")
    found = default_cache()
    assert found is not None
    assert (found.folder, found.limit_bytes) == (tmp_path, 3 << 20)
    monkeypatch.setenv("ONNXC_CACHE", "0")
    assert default_cache() is None


def test_hash_of_parts_depends_on_the_borders():
    assert hash_bytes([b"ab", b"c"]) != hash_bytes([b"a", b"bc"])


def test_identity_is_stable():
    assert compiler_identity() == compiler_identity()
