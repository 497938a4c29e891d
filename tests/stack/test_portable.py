"""What users run works with bash 3.2 and POSIX tools: a Mac has nothing else."""

import os
import re
import subprocess

import pytest

from stack import ROOT, containers, script

# Scripts that users run, and the files that they source. The rest may need Linux.
LINUX_ONLY = {"test", "compile"}
SCRIPTS = {path.stem: path for folder in ("scripts", "scripts/lib") for path in sorted((ROOT / folder).glob("*.sh")) if path.stem not in LINUX_ONLY}

# What bash's own list of changes (CHANGES, NEWS) says is newer than 3.2.
NEWER = {
    r"\$\{!?\w+(\[[^]]*\])?(\^|,)": "case modification (4.0)",
    r"\b(mapfile|readarray|coproc)\b": "a builtin of 4.0",
    r"\b(declare|local|typeset)\s+-\w*A": "associative arrays (4.0)",
    r"\b(declare|typeset)\s+-\w*g": "declare -g (4.2)",
    r"\b(declare|local|typeset)\s+-\w*n\b": "name references (4.3)",
    r"\blocal\s+-\s": "local - (4.4)",
    r"&>>": "&>> (4.0)",
    r"\|&": "|& (4.0)",
    r";;?&": ";& and ;;& (4.0)",
    r"\{0\d*\.\.": "zero-padded brace expansion (4.0)",
    r"\{\w+\.\.\w+\.\.": "brace expansion with a step (4.0)",
    r"\bread\b[^|;]*-[a-z]*t\s*\d*\.\d": "fractions of seconds in read -t (4.0)",
    r"\bread\b[^|;]*\s-[a-z]*[iN]\b": "read -i and -N (4.0, 4.1)",
    r"\bBASHPID\b": "BASHPID (4.0)",
    r"\bshopt\b.*\b(globstar|dirspell|autocd|checkjobs|lastpipe|inherit_errexit|assoc_expand_once|localvar_inherit)\b": "an option of 4.0 or later",
    r"\bexec\s+\{\w+\}": "a variable for a descriptor (4.1)",
    r"\$\{\w+:[^}]*:\s*-": "a negative length (4.2)",
    r"(\[\[|\btest\b|\[)\s+-[vR]\s": "test -v (4.2), -R (4.3)",
    r"\$'[^']*\\[uU]": "\\u in $'' (4.2)",
    r"printf\s+['\"]?%\(": "printf %()T (4.2)",
    r"\$\{\w+\[-\d": "a negative index (4.3)",
    r"\bwait\s+-[np]": "wait -n (4.3), -p (5.1)",
    r"\$\{!?\w+@\w\}": "${…@…} (4.4)",
    r"\bEPOCH(SECONDS|REALTIME)\b|\bSRANDOM\b|\bBASH_ARGV0\b": "a variable of 5.0 or 5.1",
    r"\$\{\s": "${ command; } (5.3)",
}
# What a Mac's or POSIX's tools do not know.
GNUISMS = {
    r"\b(timeout|seq|tac|numfmt|shuf|nproc|realpath|sha256sum|md5sum|mktemp|stat|flock|setsid|gawk)\b": "a tool that POSIX does not have",
    r"\bsed\b[^|]*\s-\w*[irz]": "sed -i, -r, -z",
    r"\bsed\b.*\/[a-zA-Z]*I[a-z]*['\";]": "sed's flag I",
    r"\bgrep\b[^|]*\s-\w*[oPz]": "grep -o, -P, -z",
    r"\bgrep\b[^|]*\\\|": r"\| in a basic expression",
    r"\b(head|tail)\s+-c": "head -c, tail -c",
    r"\bxargs\b[^|]*\s-\w*[0r]": "xargs -0, -r",
    r"\bsort\b[^|]*\s-\w*[zVh]": "sort -z, -V, -h",
    r"\bfind\b[^|]*-print0|\bfind\b[^|]*-printf": "find -print0, -printf",
    r"\bdate\b[^|]*(-d|--date|%N)": "date -d, %N",
    r"\breadlink\s+-f|\bcp\s+--": "GNU's readlink -f, cp --",
}
# Only where the tool is asked for first, or where only Debian gets to.
ALLOWED = {
    ("build", "sha256sum"), ("common", "sha256sum"), ("common", "mktemp"),
    ("images", "*timeout*"), ("engine", "setsid"),
}


def code_of(name):
    """(number, line) of what bash runs: no comments, and no text of awk programs."""
    for number, line in enumerate(SCRIPTS[name].read_text().splitlines(), 1):
        if not line.lstrip().startswith("#"):
            yield number, line


def assert_none(patterns):
    found = []
    for name in SCRIPTS:
        for number, line in code_of(name):
            for pattern, what in patterns.items():
                if re.search(pattern, line) and not any(n == name and text in line for n, text in ALLOWED):
                    found.append(f"scripts/{name}.sh:{number}: {what}: {line.strip()}")
    assert found == [], "\n".join(found)


def test_nothing_is_newer_than_bash_3_2():
    assert_none(NEWER)


def test_no_tool_is_asked_for_what_only_gnu_knows():
    assert_none(GNUISMS)


def test_each_pattern_finds_what_it_is_for():
    examples = [
        "${service^^}", "mapfile -t a", "declare -A a", "declare -g a", "local -n a=b", "local - ", "x &>>y", "a |& b", "a) b ;&",
        "{01..10}", "{1..9..2}", "read -t 0.5", "read -N 1", "$BASHPID", "shopt -s lastpipe", "exec {fd}>x", "${a:1: -1}", "[[ -v a ]]",
        r"$'\u00e9'", "printf '%(%s)T'", "${a[-1]}", "wait -n", "${a@Q}", "$EPOCHSECONDS", "${ ls; }",
        "timeout 5 x", "sed -i s/a/b/ x", "sed 's/a/b/I'", "grep -o x", r"grep 'a\|b'", "head -c 5", "xargs -0 x", "sort -z",
        "find . -print0", "date +%N", "readlink -f x",
    ]
    for pattern in [*NEWER, *GNUISMS]:
        assert any(re.search(pattern, example) for example in examples), pattern
    for example in examples:
        assert any(re.search(pattern, example) for pattern in [*NEWER, *GNUISMS]), example


def test_an_array_that_may_be_empty_is_never_expanded_bare():
    """Under `set -u` that is an unbound variable before bash 4.4."""
    for name in SCRIPTS:
        text = "\n".join(line for _, line in code_of(name))
        for array in set(re.findall(r"\b(\w+)=\(\s*\)", text)):
            for number, line in code_of(name):
                if re.search(r"\$\{" + array + r"\[[@*]\]\}", line):
                    guarded = f"${{{array}[@]+" in line or f"${{#{array}[@]}}" in line or f"#{array}[@]" in line
                    assert guarded, f"scripts/{name}.sh:{number}: {line.strip()}"


# The utilities of POSIX.1-2017.
POSIX = """
[ awk basename cat chgrp chmod chown cksum cmp comm cp cut date dd df diff dirname du echo ed env expand expr false find fold
getconf grep head id kill link ln logname ls man mkdir mkfifo more mv nice nl nohup od paste patch printf ps pwd rm rmdir
sed sh sleep sort split strings stty tail tee test time touch tr true tsort tty uname unexpand uniq unlink uudecode uuencode vi
wc who xargs
""".split()
# What a user of the stack has besides.
BESIDES = ["bash", "curl", "git", "docker", "docker-compose"]


def which(tool):
    return subprocess.run(["which", tool], capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def posix_path(tmp_path_factory):
    """A folder where every tool is busybox's or toybox's and nothing of GNU is there."""
    folder = tmp_path_factory.mktemp("posix")
    # Debian's busybox lacks a few.
    for box, flag in (("busybox", ["--list"]), ("toybox", [])):
        applets = subprocess.run([box, *flag], capture_output=True, text=True, check=True).stdout.split()
        for tool in POSIX:
            if tool in applets and not (folder / tool).exists():
                (folder / tool).symlink_to(which(box))
    for tool in BESIDES:
        if which(tool):
            (folder / tool).symlink_to(which(tool))
    return folder


def run_script(path, name, *arguments):
    # A real bash 3.2, where somebody has one.
    bash = os.environ.get("MOOD_BASH32", which("bash"))
    result = subprocess.run(
        [bash, ROOT / "scripts" / name, *arguments], capture_output=True, text=True, timeout=300,
        env=os.environ | {"PATH": str(path)},
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    assert "not found" not in result.stderr
    return result.stdout


def test_gnu_is_not_there(posix_path):
    for tool in ("timeout", "sha256sum", "seq", "mktemp", "gawk", "perl", "python3"):
        assert not (posix_path / tool).exists(), tool


def test_run_scale_smoke_and_stop(stack, posix_path, request):
    request.addfinalizer(lambda: script("run.sh"))
    assert "page        http://" in run_script(posix_path, "run.sh")
    assert run_script(posix_path, "scale.sh", "3").count("MiB") == 3
    assert "0 failed" in run_script(posix_path, "smoke.sh")
    assert "stopped" in run_script(posix_path, "stop.sh")
    assert containers() == []
    assert "page        http://" in run_script(posix_path, "run.sh", "--replicas", "2")
    assert len(containers("app")) == 2
