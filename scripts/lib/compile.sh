#!/bin/sh
# Compiles the service inside the image's build: one static file, as small as it gets. Called by Dockerfile.scratch.
#
# The standard library is built along, without what a service never uses (backtraces, Debug output, locations in panics):
# that is a quarter of the file. Where it cannot be, the ready-made one is taken, which is said, here and by
# `mood --version`.
#
# Environment: TARGETARCH (amd64, arm64; default this machine's), BUILDER_FLAGS (what this builder's rustc needs beside)

set -eu

case ${TARGETARCH:-$(uname -m)} in
  amd64 | x86_64) target=x86_64-unknown-linux-musl ;;
  arm64 | aarch64) target=aarch64-unknown-linux-musl ;;
  *) echo "error: not for ${TARGETARCH:-$(uname -m)}: amd64 or arm64" >&2 && exit 1 ;;
esac

static="-Ctarget-feature=+crt-static -Crelocation-model=static -Clink-arg=-static -Clink-arg=-no-pie"
# Data that followed the code on a page of its own would fill the rest of the code's last page with nothing.
small="-Clink-arg=-Wl,-z,noseparate-code -Clink-arg=-Wl,-z,common-page-size=64 -Clink-arg=-Wl,-z,norelro -Clink-arg=-Wl,--build-id=none \
-Cjump-tables=no -Zlocation-detail=none -Zfmt-debug=shallow"

# For another architecture the official toolchain brings its own linker and libc.
if command -v rustup >/dev/null; then
  case $target in
    "$(uname -m)"-*) ;;
    *)
      rustup target add "$target"
      static="-Ctarget-feature=+crt-static -Crelocation-model=static -Clinker=rust-lld -Clink-self-contained=yes"
      small="-Clink-arg=-z -Clink-arg=norelro -Cjump-tables=no -Zlocation-detail=none -Zfmt-debug=shallow"
      ;;
  esac
fi

# compile FLAGS
compile() { RUSTFLAGS=$1 cargo build --release --locked --bin mood --target "$target"; }

compile_small() (
  if command -v rustup >/dev/null; then rustup component add rust-src || true; fi
  export RUSTC_BOOTSTRAP=1 CARGO_UNSTABLE_BUILD_STD=std,panic_unwind
  export CARGO_UNSTABLE_BUILD_STD_FEATURES=optimize_for_size
  compile "$static $small ${BUILDER_FLAGS:-}"
)

compile_ready_made() (
  export MOOD_STD=ready-made
  compile "$static ${BUILDER_FLAGS:-}"
)

# Decided once: the dependencies are compiled first, in a layer of their own, and the service must match them.
if [ ! -e /tmp/std ]; then
  if compile_small 2>/tmp/log; then
    echo small >/tmp/std
  else
    cat /tmp/log >&2
    reason=$(sed -n 's/^error[^:]*: //p' /tmp/log | head -n 1)
    echo "warning: the standard library cannot be built along (${reason:-no reason given}); with the ready-made one the binary is larger and does the same" >&2
    echo ready-made >/tmp/std
    compile_ready_made
  fi
elif [ "$(cat /tmp/std)" = small ]; then
  compile_small
else
  compile_ready_made
fi
cp "target/$target/release/mood" /mood
