"""The binary of the image, which is static: its limits of memory, and other versions of Redis than this machine's."""

import stat

import pytest

from programs import binary_of, rust_tests, unpacked
from stack import SETTINGS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def binary(started_stack, tmp_path_factory):
    return binary_of(SETTINGS["APP_IMAGE"], tmp_path_factory.mktemp("binary") / "mood")


def test_it_stays_within_its_limits(binary):
    rust_tests("bad_input", "connections", "observed", "redis_away", MOOD_BINARY=str(binary))


@pytest.mark.parametrize("program", ("redis-server", "valkey-server"))
def test_it_works_with_redis_8_and_valkey(binary, tmp_path, program):
    folder = unpacked(program)
    loader, libc, server = (next(folder.rglob(pattern)) for pattern in ("ld-linux-*.so.*", "libc.so.6", f"bin/{program}"))
    script = tmp_path / program
    script.write_text(f'#!/bin/sh\nexec {loader} --library-path {libc.parent} {server} "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    rust_tests("redis_cache", "redis_away", "midnight", "observed", MOOD_BINARY=str(binary), MOOD_REDIS=str(script))
