"""Dockerfile.scratch with a builder that cannot build the standard library from source."""

import os
import re
import subprocess

import pytest

from programs import binary_of
from stack import ROOT, SETTINGS, docker, fetch, run, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.builds]

BUILDER, IMAGE, PORT = "mood-test-builder:no-rust-src", "mood-of-the-day:prebuilt", 18090
# Debian has no prebuilt standard library for musl. This builder gets one, and loses the source.
RECIPE = """
FROM {builder}
RUN target=$(uname -m)-unknown-linux-musl && cargo new -q /hello && cd /hello \\
    && RUSTC_BOOTSTRAP=1 CARGO_UNSTABLE_BUILD_STD=std,panic_unwind RUSTFLAGS="-Ctarget-feature=+crt-static -Cembed-bitcode=yes $BUILDER_FLAGS" \\
       cargo build -q --release --target $target \\
    && lib=$(rustc --print sysroot)/lib/rustlib/$target/lib && mkdir -p $lib && cp target/$target/release/deps/*.rlib $lib \\
    && rm -rf /hello /usr/lib/rustlib/src /usr/src/rustc-*
"""


def test_the_prebuilt_standard_library_is_used_with_a_warning(request, tmp_path):
    recipe = RECIPE.format(builder=SETTINGS["BUILDER_IMAGE"])
    request.addfinalizer(lambda: docker("rmi", "-f", IMAGE, BUILDER, check=False))
    subprocess.run(
        ["docker", "build", "-q", "--network", "none", "-t", BUILDER, "-"], input=recipe, text=True, check=True,
        capture_output=True, env=os.environ | {"DOCKER_BUILDKIT": "0"}, timeout=600,
    )
    result = subprocess.run(
        [ROOT / "scripts/build.sh"], capture_output=True, text=True, timeout=900,
        env=os.environ | {"BUILDER_IMAGE": BUILDER, "APP_IMAGE": IMAGE},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"warning: the standard library cannot be built from source \(.*\); with the prebuilt one", result.stderr)
    assert re.search(r"warning: the image is [0-9]+ bytes too large, because the standard library could not", result.stderr)
    assert "statically linked" in result.stdout
    assert "prebuilt standard library" in docker("run", "--rm", IMAGE, "--version")
    assert "prebuilt" not in docker("run", "--rm", SETTINGS["APP_IMAGE"], "--version")
    assert_same_behaviour(binary_of(IMAGE, tmp_path / "mood"))


def assert_same_behaviour(binary):
    url = f"http://127.0.0.1:{PORT}"

    def responds():
        try:
            return fetch("/livez", base=url)[0] == 200
        except OSError:
            return False

    process = subprocess.Popen([binary], env={"LISTEN_ADDR": f"127.0.0.1:{PORT}", "DRAIN_MS": "0"}, stdout=subprocess.DEVNULL)
    try:
        wait_for("the service responds", responds, 10)
        smoke = run("smoke.sh", url)
        assert smoke.returncode == 0, smoke.stdout
    finally:
        process.terminate()
        process.wait(timeout=10)


def test_two_builds_of_the_same_sources_are_identical():
    result = run("build.sh", "--twice", timeout=1800)
    assert result.returncode == 0, result.stdout + result.stderr
