"""What the Python programs share with their users: arguments, messages, and the end by a signal."""

import argparse
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

from stack import StackError


class Parser(argparse.ArgumentParser):
    """Prints `text` as its help, and each usage error as one line."""

    def __init__(self, program, text):
        super().__init__(prog=program, allow_abbrev=False)
        self.format_help = lambda: text

    def error(self, message):
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def number(least, most):
    """The type of an argument that is a whole number between two others."""

    def parse(text):
        if not re.fullmatch("0|[1-9][0-9]{0,5}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"expected a number from {least} to {most}")
        return int(text)

    return parse


def paint(code, text):
    plain = os.environ.get("NO_COLOR") or not sys.stdout.isatty()
    return text if plain else f"\033[{code}m{text}\033[0m"


def step(text):
    print(f"{paint(1, '==>')} {text}", flush=True)


def note(text):
    print(paint(2, f"    {text}"), flush=True)


def main(program):
    """Runs a program and exits with its result. An error is one line.

    Ctrl-C and SIGTERM leave the program through its `finally` blocks. Further signals do not interrupt these.
    """

    def leave(*_):
        set_handlers(signal.SIG_IGN)
        raise SystemExit(130)

    set_handlers(leave)
    try:
        sys.exit(program())
    except (StackError, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"error: {error}")


def set_handlers(handler):
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, handler)


@contextmanager
def healing(heal, *arguments):
    """Calls `heal` when the block ends, however it ends. Enter it before the damage is done: `heal` must also work without."""
    try:
        yield
    finally:
        try:
            heal(*arguments)
        except BaseException:
            # Interrupted, perhaps halfway. `main` prevents a second interruption.
            heal(*arguments)
            raise
