#!/usr/bin/env bash
# Builds the app's image for arm64 and runs the contract tests against its binary on an arm64 kernel, emulated whole.
# (Emulating the process alone is no use: what the service asks the kernel about its sockets is not emulated.)
#
# Usage: tests/arm64.sh
#
# The machine boots in seconds: a kernel of Debian's, busybox, and the binary. It listens on two ports of loopback: the
# service, and one at which the service is started anew, as each test wants it.

# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/../scripts/lib/common.sh"
# shellcheck source=scripts/lib/stack.sh
source "$ROOT/scripts/lib/stack.sh"
# shellcheck source=scripts/lib/images.sh
source "$ROOT/scripts/lib/images.sh"

readonly SERVICE=15080 RESTART=15081

"$ROOT/scripts/build.sh" --arch arm64

machine=$ROOT/target/arm64
if [[ ! -e $machine/kernel ]]; then
  step "Fetching a kernel and busybox for arm64"
  rm -rf "$machine" && mkdir -p "$machine/debian" "$machine/modules"
  "$ROOT/offline/debian-tar.sh" extract linux-image-cloud-arm64,busybox-static arm64 |
    tar -C "$machine/debian" -xf - --wildcards '*/vmlinuz*' '*/bin/busybox' '*/drivers/virtio/*' '*/drivers/net/*' '*/net/core/*'
  find "$machine/debian" -name '*.ko*' -exec cp {} "$machine/modules" \;
  find "$machine/modules" -name '*.xz' -exec xz -d {} +
  cp "$(find "$machine/debian" -name busybox -type f | head -n 1)" "$machine/busybox"
  cp "$(find "$machine/debian" -name 'vmlinuz*' -type f | head -n 1)" "$machine/kernel"
  rm -rf "$machine/debian"
fi

step "Making the machine"
root=$machine/root
rm -rf "$root" && mkdir -p "$root/bin" "$root/proc" "$root/sys" "$root/dev" "$root/modules"
binary_of_image "$root/mood" "$(env_value APP_IMAGE)-arm64"
cp "$machine/busybox" "$root/bin/busybox"
# In the order in which they need each other; what the kernel has built in is no file.
modules=(virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci failover net_failover virtio_net)
for module in "${modules[@]}"; do
  [[ ! -e $machine/modules/$module.ko ]] || cp "$machine/modules/$module.ko" "$root/modules/"
done
cat >"$root/init" <<INIT
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
mount -t sysfs sys /sys
for module in ${modules[*]}; do [ ! -e /modules/\$module.ko ] || insmod /modules/\$module.ko; done
ip link set lo up
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
while true; do DRAIN_MS=0 /mood >/dev/null; done &
exec nc -ll -p 5001 -e /restart
INIT
cat >"$root/restart" <<'RESTART'
#!/bin/sh
old=$(pidof mood)
kill -9 $old
while [ "$(pidof mood)" = "$old" ] || ! wget -q -O /dev/null http://127.0.0.1:5000/livez 2>/dev/null; do usleep 20000; done
echo ready
RESTART
ln -s busybox "$root/bin/sh"
chmod +x "$root/init" "$root/restart"
(cd "$root" && find . | cpio -o -H newc --quiet) >"$machine/initrd"

step "Booting it"
qemu-system-aarch64 -M virt -cpu cortex-a72 -m 256 -nographic -no-reboot -kernel "$machine/kernel" -initrd "$machine/initrd" \
  -append "console=ttyAMA0 quiet panic=-1" \
  -netdev "user,id=net,hostfwd=tcp:127.0.0.1:$SERVICE-:5000,hostfwd=tcp:127.0.0.1:$RESTART-:5001" -device virtio-net-pci,netdev=net,romfile= \
  </dev/null >"$machine/console.log" 2>&1 &
pid=$!
trap 'kill $pid 2>/dev/null || true' EXIT
if ! (wait_until 120 "the machine answers" curl -sf -m 2 "http://127.0.0.1:$SERVICE/livez"); then
  tail -n 20 "$machine/console.log" >&2
  exit 1
fi
target=$(curl -sf "http://127.0.0.1:$SERVICE/version")
say "$target"
[[ $target == *'"target":"aarch64-unknown-linux-musl"'* ]] || die "that is no arm64 binary"

# One machine: one test at a time.
MOOD_MACHINE=127.0.0.1:$SERVICE MOOD_MACHINE_RESTART=127.0.0.1:$RESTART RUST_TEST_THREADS=1 \
  cargo test --locked --test contract --test gif
URL=http://127.0.0.1:$SERVICE
"$ROOT/scripts/smoke.sh" "$URL"
