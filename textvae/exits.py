"""How the command line ends: one line for an error, and the exit status."""

import sys

import click


def run_command_line(cli: click.Group) -> None:
    """Run it: exit status 0 done, 1 failed, 2 wrong call, 130 or 143 stopped by a signal."""
    debug = "--debug" in sys.argv[1:2]
    try:
        cli(prog_name="textvae", standalone_mode=False)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see `{context.command_path} --help`)" if context else ""
        click.echo(f"error: {error.format_message()}{hint}", err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        click.echo(str(error.__cause__ or error) or "interrupted", err=True)
        sys.exit(getattr(error.__cause__, "exit_code", 130))
    except BrokenPipeError:
        sys.exit(1)
    except (ValueError, OSError, ArithmeticError, RuntimeError, MemoryError) as error:
        if debug:
            raise
        click.echo("error: " + "\n".join((str(error).strip().splitlines() or [type(error).__name__])[:2]), err=True)
        sys.exit(getattr(error, "exit_code", 1))
