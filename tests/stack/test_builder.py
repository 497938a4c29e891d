"""Dockerfile.scratch with a builder that cannot build the standard library from source."""

import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest

from stack import ROOT, SETTINGS, docker, fetch, wait_for

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


@pytest.mark.slow
def test_the_prebuilt_standard_library_is_used_with_a_warning(request):
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
    assert_same_behaviour()


def assert_same_behaviour():
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder, "mood")
        container = docker("create", IMAGE)
        docker("cp", f"{container}:/mood", str(binary))
        docker("rm", container)
        environment = {"LISTEN_ADDR": f"127.0.0.1:{PORT}", "DRAIN_MS": "0"}
        process = subprocess.Popen([binary], env=environment, stdout=subprocess.DEVNULL)
        try:
            url = f"http://127.0.0.1:{PORT}"

            def answers():
                try:
                    return fetch("/livez", base=url)[0] == 200
                except OSError:
                    return False

            wait_for("the service answers", answers, 10)
            smoke = subprocess.run([ROOT / "scripts/smoke.sh", url], capture_output=True, text=True, timeout=60)
            assert smoke.returncode == 0, smoke.stdout
        finally:
            process.terminate()
            process.wait(timeout=10)
