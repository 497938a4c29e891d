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
from contextlib import nullcontext, redirect_stdout

import engine
import experiments
import load
from console import Parser, healing, main, number
from stack import StackError, need_stack, replica_count, scale_to
from trial import EXPERIMENTS, REPLICAS, run


def chaos():
    options = arguments()
    if options.list:
        for one in EXPERIMENTS.values():
            print(f"{one.name:<25} {one.about}")
        return 0
    need_stack()
    load.program()
    if not experiments.faults_are_off():
        # Replicas that are added here must accept faults like the present ones.
        os.environ["MOOD_FAULTS"] = "on"
    results, left_out = [], []
    with redirect_stdout(sys.stderr) if options.json else nullcontext():
        try:
            with healing(scale_to, replica_count()):
                run_all(options, results, left_out)
        finally:
            if results and not engine.current():
                show_table(results)
        missed = missed_limits(*results)
        if not engine.current():
            print(f"{missed} limits missed" + ("; left out: " + " ".join(left_out) if left_out else ""))
    if options.json:
        print(json.dumps({"rate": options.rate, "experiments": results}))
    return min(missed, 100)


def arguments():
    parser = Parser("scripts/chaos.sh", __doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--rate", type=number(10, 5000), default=300)
    parser.add_argument("--seconds", type=number(2, 600), default=4)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_intermixed_args()
    for name in options.names:
        if name not in EXPERIMENTS:
            parser.error(f"there is no experiment '{name}'; --list names them")
    return options


def run_all(options, results, left_out):
    """Adds to the results, and to the names of the experiments that are impossible here."""
    isolated = []
    for name in options.names or EXPERIMENTS:
        obstacle = EXPERIMENTS[name].obstacle()
        if obstacle:
            print(f"warning: {name} is left out: {obstacle}", file=sys.stderr)
            left_out.append(name)
        elif EXPERIMENTS[name].isolated and not engine.current():
            isolated.append(name)
        else:
            results.append(run(EXPERIMENTS[name], options.rate, options.seconds))
    if isolated:
        with engine.second(REPLICAS) as daemon:
            results += run_in(daemon, isolated, options)


def run_in(daemon, names, options):
    """The results of this program in the second Docker daemon."""
    command = [sys.executable, __file__, "--json", "--rate", str(options.rate), "--seconds", str(options.seconds), *names]
    # In a session of its own Ctrl-C does not reach it.
    options = {"stdout": subprocess.PIPE, "stderr": sys.stdout, "text": True, "start_new_session": True}
    with subprocess.Popen(daemon.command(*command), **options) as child:
        try:
            output, _ = child.communicate()
        finally:
            # If it still runs, it heals.
            child.terminate()
    if not output:
        raise StackError("the experiments in the second Docker daemon failed (the reason is above)")
    return json.loads(output)["experiments"]


def missed_limits(*results):
    return sum(not bound["kept"] for result in results for bound in result["bounds"])


def show_table(results):
    print(f"\n{'experiment':<25} {'requests':>8} {'failed':>7} {'p99 ms':>9} {'slowest':>9} {'recovery':>9}  limits")
    for result in results:
        name, requests, failed, _, p99, slowest, recovery, *_ = result.values()
        numbers = f"{requests:>8} {failed:>7} {p99:>9} {slowest:>9} {'-' if recovery is None else recovery:>9}"
        missed = missed_limits(result)
        print(f"{name:<25} {numbers}  {f'{missed} missed' if missed else 'kept'}")


if __name__ == "__main__":
    main(chaos)
