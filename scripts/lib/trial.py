"""How chaos.py runs an experiment: under load, with a fault a second after its start, and with limits for the results."""

import time
from dataclasses import dataclass, field
from typing import Callable, List, Optional

from console import note, paint, step
from load import Oha, measure
from stack import StackError, query, scale_to, try_fetch, wait_for

# The limits assume this many.
REPLICAS = 3
EXPERIMENTS = {}


@dataclass(frozen=True)
class Experiment:
    name: str
    about: str
    act: Callable
    # How long the load lasts.
    seconds: int
    # Limits of the load. Without a gap, the time in which all requests may fail, no request may.
    gap_ms: Optional[int] = None
    p99_ms: Optional[int] = None
    slowest_ms: Optional[int] = None
    # Returns the reason why the experiment is impossible here, or None.
    obstacle: Callable = lambda: None
    # It harms all containers of the Docker host.
    isolated: bool = False


def experiment(seconds, **options):
    """Makes a function an experiment. It breaks something, heals it, and adds limits to the Trial that it receives."""

    def register(act):
        name = act.__name__.replace("_", "-")
        EXPERIMENTS[name] = Experiment(name, act.__doc__, act, seconds, **options)
        return act

    return register


@dataclass(frozen=True)
class Limit:
    what: str
    value: float
    most: float
    exactly: bool = False

    @property
    def kept(self):
        return self.value == self.most if self.exactly else self.value <= self.most

    def __str__(self):
        mark = paint(32, "ok    ") if self.kept else paint(31, "MISSED")
        return f"    {mark}  {self.what}: {self.value} ({'exactly' if self.exactly else 'at most'} {self.most})"

    def as_json(self):
        return {"what": self.what, "value": self.value, "most": self.most, "kept": self.kept}


@dataclass
class Trial:
    """The results of one experiment, with the field names of `chaos.sh --json`."""

    name: str
    requests: int = 0
    failed: int = 0
    p50_ms: float = 0
    p99_ms: float = 0
    slowest_ms: float = 0
    recovery_ms: Optional[int] = None
    bounds: List[Limit] = field(default_factory=list)
    alerts: List[str] = field(default_factory=list)

    def at_most(self, what, value, most):
        self.bounds.append(Limit(what, value, most))

    def exactly(self, what, value, wanted):
        self.bounds.append(Limit(what, value, wanted, exactly=True))

    def recovery(self, is_healthy, most=None, seconds=10):
        """Waits until the stack has recovered, for `seconds` at most. `most` is the limit in ms."""
        self.recovery_ms = milliseconds_until(is_healthy, seconds)
        if most:
            self.at_most("recovery, ms", self.recovery_ms, most)

    def alert(self, name):
        """This alert must have fired in the last minute."""
        self.exactly(f"the alert {name}", int(name in fired_since(60)), 1)

    def as_json(self):
        return {**vars(self), "bounds": [limit.as_json() for limit in self.bounds]}


def run(experiment, rate, seconds):
    """The results of an experiment, with `seconds` of load before and after it."""
    step(f"{experiment.name}: {experiment.about}")
    began = time.monotonic()
    scale_to(REPLICAS)
    wait_for(f"the stack is healthy before {experiment.name}", is_cached, 30)
    trial = Trial(experiment.name)
    show("before", measure(seconds, rate))
    with Oha(experiment.seconds, rate) as load:
        time.sleep(1)
        experiment.act(trial)
        figures = load.figures()
    show("broken", figures)
    show("after", measure(seconds, rate))
    if not figures.requests:
        raise StackError(f"no request was sent during {experiment.name}: is the published port reachable?")
    trial.requests, trial.failed = figures.requests, figures.failed
    trial.p50_ms, trial.p99_ms, trial.slowest_ms = (round(ms, 1) for ms in (figures.p50, figures.p99, figures.slowest))
    trial.bounds[:0] = load_limits(experiment, trial, rate)
    print(*trial.bounds, sep="\n", flush=True)
    trial.alerts = sorted(fired_since(int(time.monotonic() - began) + 5))
    note(f"alerts: {' '.join(trial.alerts) or 'none'}")
    return trial.as_json()


def load_limits(experiment, trial, rate):
    if experiment.gap_ms:
        # At a constant rate, the number of failures gives the time without a response.
        yield Limit("gap, ms", trial.failed * 1000 // rate, experiment.gap_ms)
    else:
        yield Limit("failed requests", trial.failed, 0)
    if experiment.p99_ms:
        yield Limit("p99, ms", trial.p99_ms, experiment.p99_ms)
    if experiment.slowest_ms:
        yield Limit("slowest response, failures included, ms", trial.slowest_ms, experiment.slowest_ms)


def show(when, figures):
    latencies = f"p50 {figures.p50:.1f}, p99 {figures.p99:.1f}, slowest {figures.slowest:.1f} ms"
    print(f"    {when:<7} {figures.requests:6} requests, {figures.failed} failed, {latencies}", flush=True)


def milliseconds_until(probe, seconds):
    """How long it takes until `probe` is true; gives up after `seconds`."""
    began = time.monotonic()
    while not probe() and time.monotonic() < began + seconds:
        time.sleep(0.05)
    return int((time.monotonic() - began) * 1000)


def is_cached():
    return try_fetch()[1].get("X-Cache") == "HIT"


def fired_since(seconds):
    firing = f'max_over_time(ALERTS{{alertstate="firing",alertname!="DeadMansSwitch"}}[{seconds}s])'
    return {series["metric"]["alertname"] for series in query(f"count by (alertname) ({firing})")}
