"""Lints, one command each. None of them needs Docker."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stack import ROOT

# The programs of tests/requirements.txt, and of cargo_deny.
PATH = f"{Path(sys.executable).parent}:{ROOT}/target/tools/bin:{os.environ['PATH']}"
LINTS = {
    "format": "cargo fmt --check",
    "clippy": "cargo clippy --locked --all-targets -- -D warnings",
    "shellcheck": "shellcheck -x $(git ls-files --cached --others --exclude-standard '*.sh' .ci/run)",
    "yamllint": "yamllint --config-file .config/yamllint.yml --strict .",
    "workflows": "check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml",
    "dependabot": "check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml",
    "compose": "check-jsonschema --builtin-schema vendor.compose-spec compose.yaml deploy/swarm/stack.yaml",
    "zizmor": "zizmor --offline --no-progress --quiet .github",
    "hadolint": "hadolint --config .config/hadolint.yaml $(git ls-files '*Dockerfile*')",
    # gixy sees allow and deny only inside a location. The server has them; /nginx-health has nothing to hide.
    "gixy": "gixy --skips return_bypasses_allow_deny,status_page_exposed nginx.conf",
}


def run(command):
    return subprocess.run(command, shell=True, cwd=ROOT, env=os.environ | {"PATH": PATH})


@pytest.mark.parametrize("command", LINTS.values(), ids=LINTS)
def test_lint(command):
    assert run(command).returncode == 0


@pytest.fixture(scope="module")
def cargo_deny():
    if run("cargo-deny --version").returncode:
        install = "cargo install cargo-deny --version 0.20.2 --locked --no-default-features --root target/tools"
        assert run(install).returncode == 0


# Advisories need a network; .github/workflows/dependencies.yml checks them.
@pytest.mark.slow
@pytest.mark.builds
def test_licenses_duplicates_and_sources_of_the_dependencies(cargo_deny):
    assert run("cargo-deny check licenses bans sources").returncode == 0


@pytest.mark.slow
@pytest.mark.builds
def test_a_license_that_is_not_allowed_is_found(cargo_deny, capfd):
    assert run("sed 's/\"MIT\", //' .cargo/deny.toml >target/deny.toml && cargo-deny --config target/deny.toml check licenses").returncode
    assert "licenses FAILED" in "".join(capfd.readouterr())
