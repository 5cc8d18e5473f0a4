"""The command line: ``python -m masa COMMAND``, or ``masa COMMAND`` once installed."""

from __future__ import annotations

import argparse
import importlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from masa.errors import UserError

_PROGRAM = "python -m masa"

# Module and one line of help. Commands are imported only when called, so that none waits for
# another's packages; those that draw figures live above this package, in `demo`.
COMMANDS = {
    "upscale": ("masa.commands.upscale", "enlarge photos four times with reference photos"),
    "info": ("masa.commands.info", "multiply-adds and memory for given sizes, and the weights"),
    "explain": ("demo.commands.explain", "write the figures and maps of one run to a folder"),
    "evaluate": ("masa.commands.evaluate", "measure weights on folders of pictures"),
    "robustness": (
        "demo.commands.robustness",
        "measure how steady weights stay as references change",
    ),
    "published": ("masa.commands.published", "measure weights on the paper's test sets, table 1"),
    "ablation": ("masa.commands.ablation", "compare networks as the paper's tables 3 and 4 do"),
    "compare": ("demo.commands.compare", "draw the same part of several networks' results"),
    "tradeoff": (
        "demo.commands.tradeoff",
        "measure what larger blocks and more dilations bring and cost",
    ),
    "bench": ("demo.commands.bench", "measure seconds and memory against the convolutions alone"),
    "train": ("masa.commands.train", "train weights on pairs of pictures"),
    "card": ("demo.commands.card", "write what weights were trained on and what they reach"),
    "convert": ("masa.commands.convert", "turn a checkpoint into safetensors"),
}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command's arguments, with its function as ``run``; ``SystemExit`` for wrong usage."""
    program = "masa" if Path(sys.argv[0]).stem == "masa" else _PROGRAM
    parser = argparse.ArgumentParser(
        prog=program,
        description="MASA-SR: reference-based x4 super-resolution.",
        epilog=f"'{program} COMMAND --help' explains a command and gives examples.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    called = next((word for word in argv if not word.startswith("-")), None)
    for name, (module, help_line) in COMMANDS.items():
        subparser = commands.add_parser(
            name,
            help=help_line,
            description=help_line.capitalize() + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == called:
            command = importlib.import_module(module)
            subparser.epilog = command.EPILOG.replace(_PROGRAM, program)
            command.add_arguments(subparser)
            subparser.set_defaults(run=command.run)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns 0, or 2 after a sentence on what the user should change."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # A file's name need not be text; one that is not must not end a run over many files.
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = parse(list(sys.argv[1:] if argv is None else argv))
    try:
        return arguments.run(arguments)
    except UserError as error:
        print(f"masa {arguments.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
