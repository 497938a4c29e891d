"""Dockerfile.scratch with a builder that cannot build the standard library along."""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

from stack import ROOT, SETTINGS, docker, wait_for, fetch

BUILDER, IMAGE, PORT = "mood-test-builder:no-rust-src", "mood-of-the-day:ready-made", 18090
# A ready-made standard library for musl, which Debian does not have: made once, put where rustc looks, and its source
# taken away.
RECIPE = """
FROM {builder}
RUN target=$(uname -m)-unknown-linux-musl && cargo new -q /hello && cd /hello \\
    && RUSTC_BOOTSTRAP=1 CARGO_UNSTABLE_BUILD_STD=std,panic_unwind RUSTFLAGS="-Ctarget-feature=+crt-static -Cembed-bitcode=yes $BUILDER_FLAGS" \\
       cargo build -q --release --target $target \\
    && lib=$(rustc --print sysroot)/lib/rustlib/$target/lib && mkdir -p $lib && cp target/$target/release/deps/*.rlib $lib \\
    && rm -rf /hello /usr/lib/rustlib/src /usr/src/rustc-*
"""


class WithoutRustSrc(unittest.TestCase):
    def test_the_ready_made_standard_library_is_taken_and_it_is_said(self):
        recipe = RECIPE.format(builder=SETTINGS["BUILDER_IMAGE"])
        self.addCleanup(docker, "rmi", "-f", IMAGE, BUILDER, check=False)
        subprocess.run(
            ["docker", "build", "-q", "--network", "none", "-t", BUILDER, "-"], input=recipe, text=True, check=True,
            capture_output=True, env=os.environ | {"DOCKER_BUILDKIT": "0"}, timeout=600,
        )
        result = subprocess.run(
            [ROOT / "scripts/build.sh"], capture_output=True, text=True, timeout=900,
            env=os.environ | {"BUILDER_IMAGE": BUILDER, "APP_IMAGE": IMAGE},
        )
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertRegex(result.stderr, r"warning: the standard library cannot be built along \(.*\); with the ready-made one")
        self.assertRegex(result.stderr, r"warning: the image has [0-9]+ bytes too many, since the standard library could not")
        self.assertIn("statically linked", result.stdout)
        self.assertIn("ready-made standard library", docker("run", "--rm", IMAGE, "--version"))
        self.assertNotIn("ready-made", docker("run", "--rm", SETTINGS["APP_IMAGE"], "--version"))
        self.assert_same_behaviour()

    def assert_same_behaviour(self):
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
                self.assertEqual(smoke.returncode, 0, smoke.stdout)
            finally:
                process.terminate()
                process.wait(timeout=10)


if __name__ == "__main__":
    unittest.main()
