"""`onnxc cmake-dir`, `onnxc make-include`: where build systems find what compiles models (`templates/cmake`, `templates/make`)."""

from __future__ import annotations

from pathlib import Path

import click

_TEMPLATES = Path(__file__).parents[2] / "templates"


@click.command("cmake-dir")
def cmake_dir_command() -> None:
    """Print the folder of the CMake package.

    It is for -Donnxc_DIR=..., and a Zephyr module, too.
    """
    click.echo((_TEMPLATES / "cmake").as_posix())


@click.command("make-include")
def make_include_command() -> None:
    """Print the file for a makefile to include."""
    click.echo((_TEMPLATES / "make" / "onnxc.mk").as_posix())
