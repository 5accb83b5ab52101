"""Files that are no models, and external data that reaches where it must not."""

from __future__ import annotations

import hashlib
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.frontend import load_graph

from .models import good, with_external
from .test_models import refusal

DATA = np.arange(4, dtype=np.float32).tobytes()
SHA1 = hashlib.sha1(DATA, usedforsecurity=False).hexdigest()


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("exploded",)


# fmt: off
GARBAGE: dict[str, bytes] = {
    "empty": b"",
    "text": b"this is not a model\n" * 10,
    "json": b'{"ir_version": 8, "graph": {}}',
    "zeros": bytes(1000),
    "noise": random.Random(7).randbytes(4096),
    "pickle": pickle.dumps(_Bomb()),
    "zip": b"PK\x03\x04" + bytes(200),
    "deep nesting": b"\x3a\x80\x80\x80\x08" * 1000,
}
# fmt: on


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_no_model(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.onnx"
    path.write_bytes(GARBAGE[name])
    assert refusal(path).code == "E0101"
    assert refusal(GARBAGE[name]).code == "E0101"
    assert os.listdir(tmp_path) == ["model.onnx"]


@pytest.mark.parametrize("source", [None, 3, ["a.onnx"], {}, object()])
def test_a_wrong_type_is_no_model(source: object) -> None:
    assert refusal(source).code == "E0101"


def test_places_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "missing.onnx", tmp_path / "fifo", Path("/dev/zero"), "a\0b", ""):
        assert refusal(path).code == "E0101"


def test_every_truncation_is_refused() -> None:
    data = good().SerializeToString()
    assert load_graph(data).outputs
    for length in range(len(data)):
        with pytest.raises(CompileError) as caught:
            load_graph(data[:length])
        assert caught.value.code in ("E0101", "E0102", "E0105"), (length, caught.value)


def code_of(data: bytes) -> str:
    """Code of the error that loading gives, empty if the model loads."""
    try:
        load_graph(data)
    except CompileError as error:
        return error.code
    return ""


def test_flipped_bits_never_raise_anything_else() -> None:
    data, dice = good().SerializeToString(), random.Random(1)
    for _ in range(400):
        changed = bytearray(data)
        for _ in range(dice.randint(1, 3)):
            changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
        assert code_of(bytes(changed)) != "E0901"


# External data


def _save(folder: Path, **entries: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "weights.bin").write_bytes(b"head" + DATA)
    path = folder / "model.onnx"
    path.write_bytes(with_external(**entries).SerializeToString())
    return path


@pytest.mark.parametrize(
    "entries",
    [
        {"location": "weights.bin", "offset": "4", "length": "16"},
        {"location": "weights.bin", "offset": "4"},
        {"location": "./sub/../weights.bin".replace("sub/../", ""), "offset": "4"},
        {"location": "weights.bin", "offset": "4", "checksum": hashlib.sha1(b"head" + DATA, usedforsecurity=False).hexdigest()},
    ],
)
def test_external_data_is_mapped(entries: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _save(tmp_path / "model", **entries)
    monkeypatch.chdir("/")
    (weight,) = load_graph(path).constants.values()
    np.testing.assert_array_equal(weight, np.arange(4, dtype=np.float32))
    base: object = weight
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    assert not weight.flags.writeable


@pytest.mark.parametrize(
    "entries",
    [
        {},
        {"location": ""},
        {"location": "missing.bin"},
        {"location": "."},
        {"location": "sub"},
        {"location": "../secret"},
        {"location": "a/../../secret"},
        {"location": "sub/../weights.bin"},
        {"location": "/etc/passwd"},
        {"location": "..\\secret"},
        {"location": "weights.bin\0.txt"},
        {"location": "link"},
        {"location": "linked/secret"},
        {"location": "hard"},
        {"location": "fifo"},
        {"location": "/dev/zero"},
        {"location": "weights.bin", "offset": "-4"},
        {"location": "weights.bin", "offset": "5"},
        {"location": "weights.bin", "offset": "99999999999999999999999"},
        {"location": "weights.bin", "offset": "0x4"},
        {"location": "weights.bin", "offset": "4.0"},
        {"location": "weights.bin", "offset": "\u0664"},
        {"location": "weights.bin", "offset": "4", "length": "-16"},
        {"location": "weights.bin", "offset": "4", "length": "12"},
        {"location": "weights.bin", "offset": "4", "length": "17"},
        {"location": "weights.bin", "offset": "9223372036854775807", "length": "16"},
        {"location": "weights.bin", "offset": "4", "checksum": SHA1},
        {"location": "weights.bin", "offset": "4", "command": "rm"},
        {"location": "x" * 100_000},
    ],
    ids=lambda entries: str(entries)[:60],
)
def test_external_data_stays_inside(entries: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    path = _save(folder, **entries)
    (tmp_path / "secret").write_bytes(DATA)
    (folder / "sub").mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "linked").symlink_to(tmp_path)
    os.link(tmp_path / "secret", folder / "hard")
    os.mkfifo(folder / "fifo")
    assert refusal(path).code == "E0104"


def test_a_key_is_given_once(tmp_path: Path) -> None:
    model = with_external(location="weights.bin", offset="4")
    model.graph.initializer[0].external_data.add(key="location", value="other.bin")
    path = _save(tmp_path / "model")
    path.write_bytes(model.SerializeToString())
    assert refusal(path).code == "E0104"


@pytest.mark.parametrize("make", [lambda m: m.SerializeToString(), lambda m: m], ids=["bytes", "proto"])
def test_a_model_from_memory_has_no_folder(make: Callable[[object], object]) -> None:
    assert refusal(make(with_external(location="weights.bin"))).code == "E0104"
