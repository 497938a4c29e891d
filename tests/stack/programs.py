"""Programs that tests run: Debian's, where this machine lacks them, the binary of an image, and the Rust tests."""

import os
import shutil
import subprocess

import pytest

from stack import ROOT, docker


def unpacked(packages, architecture=""):
    """A folder with these packages of Debian's testing release and their dependencies."""
    folder = ROOT / "target/debian" / f"{packages}{architecture}"
    if not folder.exists():
        if os.geteuid() != 0:
            pytest.skip(f"unpacking {packages} needs root")
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        fetch = ["offline/debian-tar.sh", "extract", packages, *([architecture] if architecture else [])]
        with subprocess.Popen(fetch, cwd=ROOT, stdout=subprocess.PIPE) as archive:
            subprocess.run(["tar", "-C", partial, "-xf", "-"], stdin=archive.stdout, check=True)
        assert archive.returncode == 0
        partial.rename(folder)
    return folder


def binary_of(image, path):
    container = docker("create", image, "/mood")
    docker("cp", f"{container}:/mood", str(path))
    docker("rm", container)
    return path


def rust_tests(*names, **environment):
    """Runs these files of tests/*.rs."""
    runner = ["cargo", "nextest", "run"] if shutil.which("cargo-nextest") else ["cargo", "test", "--no-fail-fast"]
    options = [option for name in names for option in ("--test", name)]
    result = subprocess.run([*runner, "--locked", *options], cwd=ROOT, env=os.environ | {"RUST_TEST_THREADS": "2"} | environment)
    assert result.returncode == 0
