"""Plays a ten-minute story on the running stack, to be watched in Grafana: load, scaling, the loss of Redis, recovery.

Usage: scripts/story.sh [--minutes N] [--draw]
  --minutes N   its total duration, 2 to 60 (default 10)
  --draw        afterwards, draws the data of Prometheus into docs/story-*.png (needs python3 with matplotlib)
  --help        prints this text

The stack must run (scripts/run.sh). At the end it is as before.
"""

import subprocess
import sys
import time
from contextlib import ExitStack

from console import Parser, healing, main, number, paint, step
from stack import PROMETHEUS, ROOT, SETTINGS, Load, containers, docker, fetch, need_stack, replica_count, scale_to


def clients(count):
    """A load of `count` clients that send ten requests per second each, every tenth for the page."""
    loads = ExitStack()
    loads.enter_context(Load(rate=9 * count, clients=count))
    loads.enter_context(Load(rate=count, clients=count, path="/", accept="text/html"))
    return loads


def story():
    parser = Parser("scripts/story.sh", __doc__)
    parser.add_argument("--minutes", type=number(2, 60), default=10)
    parser.add_argument("--draw", action="store_true")
    options = parser.parse_args()
    need_stack()
    began = time.time()
    redis = containers("redis")[0]["Id"]
    alerts = f"{PROMETHEUS}/alerts"
    where = f"http://localhost:{SETTINGS['GRAFANA_PORT']}, or {alerts}" if containers("grafana") else alerts
    print(f"Watch {where}. The story takes {options.minutes} minutes.", flush=True)

    def tell(text, tenths):
        """Lets that many tenths of the story pass."""
        print(f"{paint(2, f'{time.time() - began:4.0f} s')}  {text}", flush=True)
        time.sleep(options.minutes * 6 * tenths)

    with healing(scale_to, replica_count()):
        tell("quiet: no requests", 1)
        with clients(4):
            tell("morning: four clients", 1)
            scale_to(4)
            with clients(8):
                tell("noon: twelve clients, four replicas", 2)
                fetch("/refresh", method="POST")
                tell("a client refreshes the mood", 1)
                with healing(docker, "start", redis):
                    docker("stop", "-t", "1", redis)
                    tell("Redis is unavailable: moods are computed locally, and an alert fires", 2)
                tell("Redis has recovered: the cache fills, the alert resolves", 1)
                scale_to(2)
                tell("evening: two replicas are enough", 1)
        tell("night: no requests", 1)
    if options.draw:
        step("Drawing")
        drawing = [sys.executable, ROOT / "docs/draw.py", PROMETHEUS, str(int(began)), str(int(time.time()))]
        return subprocess.run(drawing).returncode


if __name__ == "__main__":
    main(story)
