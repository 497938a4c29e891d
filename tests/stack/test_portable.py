"""The scripts that users run work with bash 3.2 and POSIX tools: macOS has nothing newer. The job `mac` runs them there."""

import os
import re
import shutil
import subprocess

import pytest

from stack import ROOT, containers, script

# test.sh runs on Linux, and compile.sh in the builder.
SCRIPTS = sorted({*(ROOT / "scripts").rglob("*.sh")} - {ROOT / "scripts/test.sh", ROOT / "scripts/lib/compile.sh"})

# Newer than bash 3.2, or only in GNU's tools: a pattern, and what it finds.
NEWER = [
    (r"\$\{\w+(\[[^]]*\])?(\^|,)", "${service^^}"),
    (r"\b(mapfile|readarray|coproc)\b", "mapfile -t lines"),
    (r"\b(declare|local|typeset) -\w*[Agn]", "local -n name=other"),
    (r"&>>|\|&", "command |& tee log"),
    (r"\bread\b[^|;]* -t ?\d*\.\d", "read -t 0.5 line"),
    (r"\[\[ (! )?-v ", "[[ -v name ]]"),
    (r"\$\{\w+\[-\d", "${lines[-1]}"),
    (r"\bwait -[np]", "wait -n"),
    (r"\$\{\w+(\[@\])?@\w\}", "${name@Q}"),
    (r"\b(EPOCHSECONDS|EPOCHREALTIME|BASHPID)\b", "$EPOCHSECONDS"),
    (r"\bsed (-\w+ )*-\w*[ir]", "sed -i s/a/b/ file"),
    (r"\bdate [^|]*(-d|%N)", "date +%s%N"),
]


def code_of(path):
    return [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]


@pytest.mark.parametrize("pattern, example", NEWER, ids=[example for _, example in NEWER])
def test_no_script_uses(pattern, example):
    assert re.search(pattern, example)
    assert [(path.name, line) for path in SCRIPTS for line in code_of(path) if re.search(pattern, line)] == []


def test_an_array_that_may_be_empty_is_never_expanded_bare():
    """Before bash 4.4 that is an unbound variable under `set -u`."""
    bare = []
    for path in SCRIPTS:
        code = code_of(path)
        for array in set(re.findall(r"\b(\w+)=\(\s*\)", "\n".join(code))):
            guards = (f"${{{array}[@]+", f"#{array}[@]")
            bare += [(path.name, line) for line in code if f"{{{array}[@]}}" in line and not any(guard in line for guard in guards)]
    assert bare == []


# The utilities of POSIX.1-2017.
POSIX = """
[ awk basename cat chgrp chmod chown cksum cmp comm cp cut date dd df diff dirname du echo ed env expand expr false find fold
getconf grep head id kill link ln logname ls man mkdir mkfifo more mv nice nl nohup od paste patch printf ps pwd rm rmdir
sed sh sleep sort split strings stty tail tee test time touch tr true tsort tty uname unexpand uniq unlink uudecode uuencode vi
wc who xargs
""".split()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A folder where every tool comes from busybox or toybox, and none from GNU."""
    folder = tmp_path_factory.mktemp("posix")
    # Debian's busybox lacks a few.
    for box, *options in (("busybox", "--list"), ("toybox",)):
        applets = subprocess.run([box, *options], capture_output=True, text=True, check=True).stdout.split()
        for tool in {*POSIX} & {*applets}:
            if not (folder / tool).exists():
                (folder / tool).symlink_to(shutil.which(box))
    for tool in filter(shutil.which, ("bash", "curl", "git", "docker", "docker-compose")):
        (folder / tool).symlink_to(shutil.which(tool))
    return folder


def test_gnu_tools_are_absent(path):
    assert [tool for tool in ("timeout", "sha256sum", "seq", "mktemp", "gawk", "perl", "python3") if (path / tool).exists()] == []


def test_run_scale_smoke_and_stop_work_with_posix_tools(stack, path, request):
    def run(name, *arguments):
        result = subprocess.run(
            [path / "bash", ROOT / "scripts" / name, *arguments], capture_output=True, text=True, timeout=300,
            env=os.environ | {"PATH": str(path)},
        )
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
        assert "not found" not in result.stderr
        return result.stdout

    request.addfinalizer(lambda: script("run.sh"))
    assert "page        http://" in run("run.sh")
    assert run("scale.sh", "3").count("MiB") == 3
    assert "0 failed" in run("smoke.sh")
    assert "stopped" in run("stop.sh")
    assert containers() == []
    assert "page        http://" in run("run.sh", "--replicas", "2")
    assert len(containers("app")) == 2
