"""scripts/stop.sh --purge. Afterwards all images have to be made again."""

import pytest

from stack import PROJECT, docker, script


@pytest.mark.purge
def test_purge_removes_containers_volumes_and_images():
    script("run.sh")
    script("stop.sh", "--purge")
    ours = f"label=com.docker.compose.project={PROJECT}"
    assert docker("ps", "-aq", "--filter", ours) == docker("volume", "ls", "-q", "--filter", ours) == ""
    for label in ("mood.source", "mood.offline", "mood.stage"):
        assert docker("images", "-q", "--filter", f"label={label}") == "", label
