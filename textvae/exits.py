"""How the command line ends: one line for an error, and the exit status."""

import sys

import click

from latent.machine.launch import print_first, signed

LONGEST = 900  # characters of a line of an error


def run_command_line(cli: click.Group) -> None:
    """Run it: exit status 0 done, 1 failed, 2 wrong call, 130 or 143 stopped by a signal."""
    debug = "--debug" in sys.argv[1:2]
    try:
        cli(prog_name="textvae", standalone_mode=False)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see `{context.command_path} --help`)" if context else ""
        click.echo(signed(f"error: {error.format_message()}{hint}"), err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        print_first(str(error.__cause__ or error) or "interrupted", to_errors=True)
        sys.exit(getattr(error.__cause__, "exit_code", 130))
    except BrokenPipeError:
        sys.exit(1)
    except (ValueError, OSError, ArithmeticError, RuntimeError, MemoryError) as error:
        if debug:
            raise
        click.echo(signed(f"error: {shown(error)}"), err=True)
        sys.exit(getattr(error, "exit_code", 1))


def shown(error: Exception) -> str:
    """An error's first two lines, cut where they are long, without control characters: it may quote anybody's file.

    Of the system's errors the file and the reason, as of ours, without the number.
    """
    file, reason = getattr(error, "filename", None), getattr(error, "strerror", None)
    said = f"{file}: {reason}" if file is not None and reason else str(error)
    lines = (said.strip().splitlines() or [type(error).__name__])[:2]
    return "\n".join(_printable(line if len(line) <= LONGEST else f"{line[:LONGEST]} …") for line in lines)


def _printable(line: str) -> str:
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in line)
