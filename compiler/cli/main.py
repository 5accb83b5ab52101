"""The command line: `onnxc COMMAND ...`, also `python -m onnxc.compiler.cli`.

This file holds the frame: which commands there are, and what becomes of an error. Each command stands in a file beside this one,
imported when it is called; at the top of all of them only click is imported, so that help appears at once.

Exit codes: 0 all is well, 1 the model, the target or a file is at fault (or onnxc itself: E0901), 2 wrong usage.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from ..diagnostics import CompileError, diagnostic_json

OK, FAULT, USAGE = 0, 1, 2

COMMANDS = {
    "compile": "compile",
    "inspect": "inspect",
    "run": "running",
    "verify": "verify",
    "bench": "bench",
    "quantize": "quantize",
    "report": "report",
    "targets": "listing",
    "passes": "listing",
    "cmake-dir": "firmware",
    "make-include": "firmware",
    "version": "listing",
}


class _Commands(click.Group):
    """Finds a command in the file that `COMMANDS` names."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found = getattr(import_module(f".{COMMANDS[cmd_name]}", __package__), f"{cmd_name.replace('-', '_')}_command")
        assert isinstance(found, click.Command)
        return found


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def onnxc() -> None:
    """Compile an ONNX model into code for one target."""


def run(arguments: Sequence[str]) -> int:
    """Carry out a command line and return the exit code; never raises for a user's mistake or a fault of onnxc."""
    try:
        result = onnxc.main(list(arguments), prog_name="onnxc", standalone_mode=False)
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.ClickException as error:
        error.show()
        return USAGE
    except click.Abort:
        click.echo("interrupted", err=True)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except CompileError as error:
        return _report(error, arguments)
    except Exception as error:  # noqa: BLE001 (the last line of defence: E0901)
        from .crash import report_crash

        return _report(report_crash(error, arguments), arguments)
    return result if isinstance(result, int) else OK


def _report(error: CompileError, arguments: Sequence[str]) -> int:
    for diagnostic in error.diagnostics:
        click.echo(str(diagnostic), err=True)
    if "--json" in arguments:
        found = [diagnostic_json(d) for d in error.diagnostics]
        click.echo(json.dumps({"ok": False, "errors": found}, indent=2))
    return FAULT


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))
