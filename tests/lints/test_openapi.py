"""The service against its contract, docs/openapi.yaml."""

import os
import subprocess
import sys
from pathlib import Path

from stack import ROOT, fetch, wait_for

ADDRESS = "127.0.0.1:18091"


def responds():
    try:
        return fetch("/livez", base=f"http://{ADDRESS}")[0] == 200
    except OSError:
        return False


def test_the_service_keeps_its_contract():
    service = subprocess.Popen([ROOT / "target/release/mood"], env=os.environ | {"LISTEN_ADDR": ADDRESS}, stdout=subprocess.DEVNULL)
    try:
        wait_for("the service responds", responds, 10)
        schemathesis = Path(sys.executable).parent / "schemathesis"
        command = [schemathesis, "run", "docs/openapi.yaml", "--url", f"http://{ADDRESS}", "--checks", "all", "--mode", "all", "--no-color"]
        assert subprocess.run(command, cwd=ROOT).returncode == 0
    finally:
        service.terminate()
        service.wait()
