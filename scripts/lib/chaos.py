"""Breaks the running stack on purpose, one part at a time, under a constant load through Nginx, and checks fixed limits.

Usage: scripts/chaos.sh [EXPERIMENT…] [--rate N] [--seconds S] [--json] [--list]
  EXPERIMENT    names from --list (default: all of them, about a quarter of an hour)
  --rate N      requests per second, 10 to 5000 (default 300)
  --seconds S   of load before and after each experiment, 2 to 600 (default 4)
  --json        prints the results as JSON on stdout, and everything else on stderr
  --list        prints the experiments, each with a description
  --help        prints this text

The stack must run (scripts/run.sh). It gets three replicas, and as many as before at the end. Each fault is healed, also on
Ctrl-C. The exit code is the number of limits that were missed.
"""

import json
import os
import subprocess
import sys

import engine
import experiments
import load
from console import Parser, console, healing, main, number
from stack import need_stack, replica_count, scale_to
from trial import EXPERIMENTS, REPLICAS, run


def arguments():
    parser = Parser("scripts/chaos.sh", __doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--rate", type=number(10, 5000), default=300)
    parser.add_argument("--seconds", type=number(2, 600), default=4)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    for name in options.names:
        if name not in EXPERIMENTS:
            parser.error(f"there is no experiment '{name}'; --list names them")
    return options


def chaos():
    options = arguments()
    if options.list:
        for one in EXPERIMENTS.values():
            print(f"{one.name:<25} {one.about}")
        return 0
    if options.json:
        console.stream = sys.stderr
    need_stack()
    load.program()
    if not experiments.faults_are_off():
        # Replicas that are added here must accept faults like the present ones.
        os.environ["MOOD_FAULTS"] = "on"
    with healing(scale_to, replica_count()):
        results, left_out = run_all([EXPERIMENTS[name] for name in options.names or EXPERIMENTS], options)
    missed = sum(missed_limits(result) for result in results)
    if options.json:
        print(json.dumps({"rate": options.rate, "experiments": results}))
    if not engine.current():
        show_table(results)
        console.say(f"{missed} limits missed" + ("; left out: " + " ".join(left_out) if left_out else ""))
    return min(missed, 100)


def run_all(chosen, options):
    """The results, and the names of the experiments that are impossible here."""
    results, left_out, isolated = [], [], []
    for one in chosen:
        obstacle = one.obstacle()
        if obstacle:
            console.warn(f"{one.name} is left out: {obstacle}")
            left_out.append(one.name)
        elif one.isolated and not engine.current():
            isolated.append(one.name)
        else:
            results.append(run(one, options.rate, options.seconds))
    if isolated:
        with engine.second(REPLICAS) as daemon:
            results += run_in(daemon, isolated, options)
    return results, left_out


def run_in(daemon, names, options):
    """The results of this program, run in a second Docker daemon."""
    command = [sys.executable, __file__, "--json", "--rate", str(options.rate), "--seconds", str(options.seconds), *names]
    with subprocess.Popen(daemon.command(*command), stdout=subprocess.PIPE, stderr=console.stream, text=True) as child:
        try:
            output, _ = child.communicate()
        finally:
            # It heals on this signal. After its end it is not affected.
            child.terminate()
    return json.loads(output)["experiments"]


def missed_limits(result):
    return sum(not bound["kept"] for bound in result["bounds"])


def show_table(results):
    console.say(f"\n{'experiment':<25} {'requests':>8} {'failed':>7} {'p99 ms':>9} {'slowest':>9} {'recovery':>9}  limits")
    for result in results:
        recovery = "-" if result["recovery_ms"] is None else result["recovery_ms"]
        missed = missed_limits(result)
        console.say(
            f"{result['name']:<25} {result['requests']:>8} {result['failed']:>7} {result['p99_ms']:>9.1f} "
            f"{result['slowest_ms']:>9.1f} {recovery:>9}  {f'{missed} missed' if missed else 'kept'}"
        )


if __name__ == "__main__":
    main(chaos)
