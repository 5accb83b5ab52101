"""The shape of the house: packages, docstrings, imports."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("compiler", "passes", "backends")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def modules() -> list[Path]:
    return [ROOT / "__init__.py", *(p for f in FOLDERS for p in sorted((ROOT / f).rglob("*.py")))]


def test_the_list_of_packages_is_the_folders():
    found = {"onnxc", *(".".join(("onnxc", *p.parent.relative_to(ROOT).parts)) for f in FOLDERS for p in (ROOT / f).rglob("__init__.py"))}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found


def test_every_folder_of_modules_is_a_package():
    assert [p for p in modules() if not (p.parent / "__init__.py").exists()] == []


def test_the_root_holds_no_other_module():
    assert [p.name for p in ROOT.glob("*.py")] == ["__init__.py"]


def test_every_module_says_what_it_is():
    assert [str(p.relative_to(ROOT)) for p in modules() if not ast.get_docstring(ast.parse(p.read_text()))] == []


def test_files_stay_small():
    assert {str(p.relative_to(ROOT)): n for p in modules() if (n := p.read_text().count("\n")) > 400} == {}


def test_inside_the_package_imports_are_relative():
    found = [
        f"{p.relative_to(ROOT)}:{node.lineno}"
        for p in modules()
        for node in ast.walk(ast.parse(p.read_text()))
        if (isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "onnxc")
        or (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "onnxc" for alias in node.names))
    ]
    assert found == []


def loaded_after(code: str) -> set[str]:
    text = f"{code}\nimport sys; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout.split())


def test_importing_the_package_costs_nothing():
    assert not loaded_after("import onnxc") & {"numpy", "onnx", "llvmlite", "networkx", "click", "onnxc.compiler.driver"}


@pytest.mark.parametrize("backend", ["c", "cuda"])
def test_only_the_llvm_backend_imports_llvmlite(backend):
    imports = "; ".join(
        ".".join(("import onnxc", *p.with_suffix("").relative_to(ROOT).parts)).removesuffix(".__init__")
        for p in sorted((ROOT / "backends" / backend).rglob("*.py"))
    )
    assert not [name for name in loaded_after(imports) if name.split(".")[0] == "llvmlite" or name.startswith("onnxc.backends.llvm")]


def test_the_compiler_loads_no_backend():
    imports = "; ".join(
        ".".join(("import onnxc", *p.with_suffix("").relative_to(ROOT).parts)).removesuffix(".__init__")
        for p in sorted((ROOT / "compiler").rglob("*.py"))
    )
    assert not [name for name in loaded_after(imports) if name.startswith(("onnxc.backends", "onnxc.passes"))]
