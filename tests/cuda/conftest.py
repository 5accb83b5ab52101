"""Runs generated CUDA C++ through the host shim."""

import shutil

import pytest

ORDERS = ("forward", "reverse", "random")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        for item in items:
            if "/tests/cuda/" in str(item.path):
                item.add_marker(pytest.mark.skip(reason="no C++ compiler is installed"))
