"""compose.yaml and the stack file of Swarm, read with the values of .env."""

import re

import yaml
from stack import ROOT, defaults


def services(file, **variables):
    """All services of a file. Variables have the given values, else those of .env, else their defaults in the file."""
    values = defaults() | variables
    text = re.sub(
        r"\$\{([A-Z_]+)(:-(.*?))?\}", lambda match: values.get(match[1], match[3]) if match[2] else values[match[1]], (ROOT / file).read_text()
    )
    return yaml.safe_load(text)["services"]


def compose_service(name):
    return services("compose.yaml")[name]
