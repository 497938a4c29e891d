"""compose.yaml and what is written like it, read with the values of .env."""

import re

import yaml
from stack import ROOT, defaults


def services(file, **variables):
    """All services of a file, its variables put in: those given, else as .env has them."""
    values = defaults() | variables
    text = re.sub(r"\$\{([A-Z_]+)\}", lambda match: values[match[1]], (ROOT / file).read_text())
    return yaml.safe_load(text)["services"]


def compose_service(name):
    return services("compose.yaml")[name]
