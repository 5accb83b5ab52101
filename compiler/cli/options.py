"""Options that several commands share, and the parsing of their values."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from ..driver import CompiledModel

F = TypeVar("F", bound=Callable[..., Any])


class Extents(click.ParamType[dict[str, int]]):
    """`name=16,other=4`: extents of symbolic dimensions."""

    name = "NAME=N,.."

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, int]:
        """Parse one occurrence of the option."""
        if isinstance(value, dict):
            return value
        found: dict[str, int] = {}
        for part in filter(None, str(value).split(",")):
            name, equals, number = part.rpartition("=")
            if not equals or not name or not number.isdecimal() or int(number) < 1:
                self.fail(f"{part!r} is not NAME=N with a positive N", param, ctx)
            found[name] = int(number)
        return found


class Size(click.ParamType[int]):
    """`64K`, `1M` or `65536`: a number of bytes; K and M are powers of 1024."""

    name = "BYTES"
    units: Mapping[str, int] = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse the option."""
        text = str(value).strip().upper().removesuffix("B").removesuffix("I")
        number = text.rstrip("KMG")
        if not number.isdecimal() or text[len(number) :] not in self.units:
            self.fail(f"{value!r} is not a size such as 65536, 64K or 1M", param, ctx)
        return int(number) * self.units[text[len(number) :]]


def _merge(ctx: click.Context, param: click.Parameter, values: tuple[dict[str, int], ...]) -> dict[str, int]:
    merged: dict[str, int] = {}
    for value in values:
        merged.update(value)
    return merged


def extents_option(flag: str, text: str) -> Callable[[F], F]:
    """An option of type `Extents` that may be repeated."""
    return click.option(flag, type=Extents(), multiple=True, callback=_merge, metavar="NAME=N[,..]", help=text)


def _load_operators(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
    """Let the compiler know the operators of a file for as long as the command runs."""
    if path is not None:
        from ..ops.custom import load_operators, using_operators

        ctx.with_resource(using_operators(load_operators(path)))


operators_option = click.option(
    "--operators",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=_load_operators,
    expose_value=False,
    metavar="FILE.py",
    help="Python file with operators of your own: a list OPERATORS of rows.",
)
model_argument = click.argument("model", type=click.Path(path_type=Path))
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object for scripts.")


_COMPILING = frozenset({"target", "bind", "max", "name", "kv_cache", "dump"})
"""Options that decide what a compile makes."""


def compile_options(command: F) -> F:
    """The options that say how to compile; the command takes them as keywords of `compiled`."""
    for option in (
        click.option("--dump", type=click.Path(path_type=Path, file_okay=False), help="Folder for the text of every stage, one file each."),
        click.option("--name", default="", help="Name of the model in symbols and files. [default: that of its graph]"),
        click.option("--kv-cache", is_flag=True, help="Let the key and value caches of a decoder grow in place, in the caller's memory."),
        operators_option,
        click.option("--no-cache", is_flag=True, help="Neither read nor write the compile cache."),
        extents_option("--max", "Upper bound of a symbolic dimension."),
        extents_option("--bind", "Value of a symbolic dimension, fixed in the code."),
        click.option("--threads", type=click.IntRange(1, 1024), help="Threads of the compiled model. [default: all cores]"),
        click.option("-t", "--target", default="cpu", show_default=True, help="What to compile for; see `onnxc targets`."),
    ):
        command = option(command)
    return command


def compiled(
    model: Path,
    *,
    target: str,
    threads: int | None,
    bind: Mapping[str, int],
    max: Mapping[str, int],
    no_cache: bool,
    kv_cache: bool = False,
    name: str = "",
    dump: Path | None = None,
    max_ram: int | None = None,
    max_flash: int | None = None,
) -> CompiledModel:
    """Compile a model file, or load an artifact if a folder is named: its target and extents are what they were when it was compiled."""
    from .. import driver

    if model.is_dir():
        found = driver.load(model, threads=threads)
        refuse_compile_options(model, found.target.name)
        return found
    with working(f"compiling {model.name} for {target}"):
        return driver.compile(
            model,
            target,
            threads=threads,
            bind=bind,
            max=max,
            name=name,
            max_ram=max_ram,
            max_flash=max_flash,
            kv_cache=kv_cache,
            cache=not no_cache,
            dump=dump,
        )


def refuse_compile_options(folder: Path, target: str) -> None:
    """Wrong usage if the command line says how to compile what is compiled already; naming its own target is fine."""
    context = click.get_current_context()
    given = [
        p for p in context.command.params if p.name in _COMPILING and context.get_parameter_source(p.name) is ParameterSource.COMMANDLINE
    ]
    refused = [p.opts[-1] for p in given if p.name != "target" or context.params["target"] != target]
    if refused:
        hint = "name the model file to compile it otherwise; --dim NAME=N gives random inputs an extent"
        raise click.UsageError(f"{', '.join(refused)}: '{folder}' is compiled already, for target '{target}'; {hint}", context)


@contextmanager
def working(text: str) -> Iterator[None]:
    """Show that something takes its time, on a terminal only."""
    import sys

    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status(escape(text)):
        yield


def show_json(data: Mapping[str, object]) -> None:
    """Print the one JSON object of a command."""
    click.echo(json.dumps(data, indent=2, default=str))


def show_table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table under a title, if there is one. Cells may hold names from a model: they are escaped."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from ..diagnostics import printable

    console = Console()
    for line in title.splitlines():
        console.print(escape(printable(line)), highlight=False)
    table = Table(box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(escape(printable(cell)) for cell in row))
    console.print(table)
