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
        self.text = text

    def format_help(self):
        return self.text

    def error(self, message):
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def number(least, most):
    """The type of an argument that is a whole number between two others."""

    def parse(text):
        if not re.fullmatch("[1-9][0-9]{0,5}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"expected a number from {least} to {most}")
        return int(text)

    return parse


class Console:
    """Messages on stdout, or on stderr if stdout is for results. Colours only on a terminal without NO_COLOR."""

    def __init__(self):
        self.stream = sys.stdout

    def say(self, text=""):
        print(text, file=self.stream, flush=True)

    def step(self, text):
        self.say(f"{self.paint(1, '==>')} {text}")

    def note(self, text):
        self.say(self.paint(2, f"    {text}"))

    def warn(self, text):
        print(f"{self.paint(33, 'warning:')} {text}", file=sys.stderr, flush=True)

    def paint(self, code, text):
        plain = os.environ.get("NO_COLOR") or not self.stream.isatty()
        return text if plain else f"\033[{code}m{text}\033[0m"


console = Console()


def main(program):
    """Runs a program and exits with its result. An error is one line.

    Ctrl-C and SIGTERM leave the program through its `finally` blocks, and further signals do not interrupt these.
    """

    def leave(*_):
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, signal.SIG_IGN)
        raise SystemExit(130)

    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, leave)
    try:
        sys.exit(program())
    except (StackError, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"error: {error}")


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
