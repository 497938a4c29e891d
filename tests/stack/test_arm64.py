"""The image for arm64: the contract tests against its binary, on an emulated machine.

Emulating only the process is not enough: the service reads the state of its sockets from the kernel, which is not emulated then.
"""

import lzma
import shutil
import subprocess

import pytest

from programs import binary_of, rust_tests, unpacked
from stack import SETTINGS, fetch, run, script, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.builds, pytest.mark.root]

SERVICE, RESTART = "127.0.0.1:15080", "127.0.0.1:15081"
# In the order of their dependencies. Those that the kernel has built in have no file.
MODULES = "virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci failover net_failover virtio_net".split()
INIT = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
mount -t sysfs sys /sys
for module in {' '.join(MODULES)}; do [ ! -e /$module.ko ] || insmod /$module.ko; done
ip link set lo up
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
while true; do DRAIN_MS=0 /mood >/dev/null; done &
exec nc -ll -p 5001 -e /restart
"""
# Restarts the service for a test.
RESTART_SCRIPT = """#!/bin/sh
old=$(pidof mood)
kill -9 $old
while [ "$(pidof mood)" = "$old" ] || ! wget -q -O /dev/null http://127.0.0.1:5000/livez 2>/dev/null; do usleep 20000; done
echo ready
"""


def disk(folder):
    """The root file system: busybox, modules of the kernel, and the binary."""
    debian = unpacked("linux-image-cloud-arm64,busybox-static", "arm64")
    for name in ("bin", "proc", "sys", "dev"):
        (folder / name).mkdir(parents=True)
    for module in MODULES:
        for file in debian.rglob(f"{module}.ko.xz"):
            (folder / f"{module}.ko").write_bytes(lzma.decompress(file.read_bytes()))
    shutil.copy(next(debian.rglob("bin/busybox")), folder / "bin")
    (folder / "bin/sh").symlink_to("busybox")
    for name, text in (("init", INIT), ("restart", RESTART_SCRIPT)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    binary_of(f"{SETTINGS['APP_IMAGE']}-arm64", folder / "mood")
    subprocess.run("find . | cpio -o -H newc --quiet >../disk", shell=True, cwd=folder, check=True)
    return folder.parent / "disk", next(debian.rglob("vmlinuz*"))


@pytest.fixture
def machine(tmp_path):
    build = run("build.sh", "--arch", "arm64", timeout=1800)
    assert build.returncode == 0, build.stdout + build.stderr
    initrd, kernel = disk(tmp_path / "root")
    ports = f"hostfwd=tcp:{SERVICE}-:5000,hostfwd=tcp:{RESTART}-:5001"
    command = ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", "-m", "256", "-nographic", "-no-reboot", "-kernel", kernel]
    command += ["-initrd", initrd, "-append", "console=ttyAMA0 quiet panic=-1", "-netdev", f"user,id=net,{ports}"]
    command += ["-device", "virtio-net-pci,netdev=net,romfile="]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as emulator:
        yield f"http://{SERVICE}"
        emulator.kill()


def responds(url):
    try:
        return fetch("/livez", base=url)[0] == 200
    except OSError:
        return False


def test_the_contract_is_kept_on_arm64(machine):
    wait_for("the machine responds", lambda: responds(machine), 120)
    assert b'"target":"aarch64-unknown-linux-musl"' in fetch("/version", base=machine)[2]
    rust_tests("contract", "gif", MOOD_MACHINE=SERVICE, MOOD_MACHINE_RESTART=RESTART, NEXTEST_TEST_THREADS="1", RUST_TEST_THREADS="1")
    script("smoke.sh", machine)
