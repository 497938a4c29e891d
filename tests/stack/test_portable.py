"""What users run works with bash 3.2 and POSIX tools: a Mac has nothing else."""

import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

from stack import ROOT, SETTINGS, containers, script

# What users run, and what that sources. The rest may need Linux: test.sh, and debian.sh beyond its first checks.
SCRIPTS = ["run", "scale", "smoke", "stop", "story", "build", "lib", "stack", "images", "pull", "debian", "versions", "chaos", "experiments", "engine", "load", "density", "swarm", "swarm_lab"]

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
    ("build", "sha256sum"), ("lib", "sha256sum"), ("lib", "mktemp"),
    ("pull", "*timeout*"), ("engine", "setsid"), ("debian", "grep -oE 'https"), ("debian", "cp -L"),
}


def code_of(name):
    """(number, line) of what bash runs: no comments, and no text of awk programs."""
    for number, line in enumerate((ROOT / "scripts" / f"{name}.sh").read_text().splitlines(), 1):
        if not line.lstrip().startswith("#"):
            yield number, line


class Constructs(unittest.TestCase):
    def assert_none(self, patterns):
        found = []
        for name in SCRIPTS:
            for number, line in code_of(name):
                for pattern, what in patterns.items():
                    if re.search(pattern, line) and not any(n == name and text in line for n, text in ALLOWED):
                        found.append(f"scripts/{name}.sh:{number}: {what}: {line.strip()}")
        self.assertEqual(found, [], "\n".join(found))

    def test_nothing_is_newer_than_bash_3_2(self):
        self.assert_none(NEWER)

    def test_no_tool_is_asked_for_what_only_gnu_knows(self):
        self.assert_none(GNUISMS)

    def test_each_pattern_finds_what_it_is_for(self):
        examples = [
            "${service^^}", "mapfile -t a", "declare -A a", "declare -g a", "local -n a=b", "local - ", "x &>>y", "a |& b", "a) b ;&",
            "{01..10}", "{1..9..2}", "read -t 0.5", "read -N 1", "$BASHPID", "shopt -s lastpipe", "exec {fd}>x", "${a:1: -1}", "[[ -v a ]]",
            r"$'\u00e9'", "printf '%(%s)T'", "${a[-1]}", "wait -n", "${a@Q}", "$EPOCHSECONDS", "${ ls; }",
            "timeout 5 x", "sed -i s/a/b/ x", "sed 's/a/b/I'", "grep -o x", r"grep 'a\|b'", "head -c 5", "xargs -0 x", "sort -z",
            "find . -print0", "date +%N", "readlink -f x",
        ]
        for pattern in [*NEWER, *GNUISMS]:
            self.assertTrue(any(re.search(pattern, example) for example in examples), pattern)
        for example in examples:
            self.assertTrue(any(re.search(pattern, example) for pattern in [*NEWER, *GNUISMS]), example)

    def test_an_array_that_may_be_empty_is_never_expanded_bare(self):
        """Under `set -u` that is an unbound variable before bash 4.4."""
        for name in SCRIPTS:
            text = "\n".join(line for _, line in code_of(name))
            for array in set(re.findall(r"\b(\w+)=\(\s*\)", text)):
                for number, line in code_of(name):
                    if re.search(r"\$\{" + array + r"\[[@*]\]\}", line):
                        guarded = f"${{{array}[@]+" in line or f"${{#{array}[@]}}" in line or f"#{array}[@]" in line
                        self.assertTrue(guarded, f"scripts/{name}.sh:{number}: {line.strip()}")


# The utilities of POSIX.1-2017.
POSIX = """
[ awk basename cat chgrp chmod chown cksum cmp comm cp cut date dd df diff dirname du echo ed env expand expr false find fold
getconf grep head id kill link ln logname ls man mkdir mkfifo more mv nice nl nohup od paste patch printf ps pwd rm rmdir
sed sh sleep sort split strings stty tail tee test time touch tr true tsort tty uname unexpand uniq unlink uudecode uuencode vi
wc who xargs
""".split()
# What a user of the stack has besides.
BESIDES = ["bash", "curl", "git", "docker", "docker-compose"]


class PosixTools(unittest.TestCase):
    """run, scale, smoke and stop where every tool is busybox's or toybox's and nothing of GNU is there."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.path = folder.name
        # Debian's busybox lacks a few.
        for box, flag in (("busybox", ["--list"]), ("toybox", [])):
            applets = subprocess.run([box, *flag], capture_output=True, text=True, check=True).stdout.split()
            for tool in POSIX:
                if tool in applets and not Path(cls.path, tool).exists():
                    Path(cls.path, tool).symlink_to(cls.which(box))
        for tool in BESIDES:
            if cls.which(tool):
                Path(cls.path, tool).symlink_to(cls.which(tool))

    @staticmethod
    def which(tool):
        return subprocess.run(["which", tool], capture_output=True, text=True).stdout.strip()

    def run_script(self, name, *arguments):
        # A real bash 3.2, where somebody has one.
        bash = os.environ.get("MOOD_BASH32", self.which("bash"))
        result = subprocess.run(
            [bash, ROOT / "scripts" / name, *arguments], capture_output=True, text=True, timeout=300,
            env=os.environ | {"PATH": self.path},
        )
        self.assertEqual(result.returncode, 0, result.stdout[-2000:] + result.stderr[-2000:])
        self.assertNotIn("not found", result.stderr)
        return result.stdout

    def test_gnu_is_not_there(self):
        for tool in ("timeout", "sha256sum", "seq", "mktemp", "gawk", "perl", "python3"):
            self.assertFalse(Path(self.path, tool).exists(), tool)

    def test_run_scale_smoke_and_stop(self):
        self.addCleanup(script, "run.sh")
        self.assertIn("page        http://", self.run_script("run.sh"))
        self.assertEqual(self.run_script("scale.sh", "3").count("MiB"), 3)
        self.assertIn("0 failed", self.run_script("smoke.sh"))
        self.assertIn("stopped", self.run_script("stop.sh"))
        self.assertEqual(containers(), [])
        self.assertIn("page        http://", self.run_script("run.sh", "--replicas", "2"))
        self.assertEqual(len(containers("app")), 2)


if __name__ == "__main__":
    print(f"testing {SETTINGS['COMPOSE_PROJECT_NAME']}")
    unittest.main()
