#!/bin/sh
# Compiles the service to one small static binary. Called by Dockerfile.scratch.
#
# The standard library is built from source, without backtraces, Debug output and panic locations. This saves a quarter of the
# binary. If it cannot be built, the prebuilt one is used, with a warning here and a note in `mood --version`.
#
# Environment: TARGETARCH (amd64 or arm64; default: this machine), BUILDER_FLAGS (additional flags for rustc)

set -eu

case ${TARGETARCH:-$(uname -m)} in
  amd64 | x86_64) target=x86_64-unknown-linux-musl ;;
  arm64 | aarch64) target=aarch64-unknown-linux-musl ;;
  *) echo "error: ${TARGETARCH:-$(uname -m)} is not supported: use amd64 or arm64" >&2 && exit 1 ;;
esac

static="-Ctarget-feature=+crt-static -Crelocation-model=static -Clink-arg=-static -Clink-arg=-no-pie"
# Code and data share a page, so the binary has no padding between them.
small="-Clink-arg=-Wl,-z,noseparate-code -Clink-arg=-Wl,-z,common-page-size=64 -Clink-arg=-Wl,-z,norelro -Clink-arg=-Wl,--build-id=none \
-Cjump-tables=no -Zlocation-detail=none -Zfmt-debug=shallow"

# The official toolchain has a linker and a libc for other architectures.
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

compile_prebuilt() (
  export MOOD_STD=prebuilt
  compile "$static ${BUILDER_FLAGS:-}"
)

# Decided once, for the dependencies, which are compiled in a separate layer. The service must match them.
if [ ! -e /tmp/std ]; then
  if compile_small 2>/tmp/log; then
    echo small >/tmp/std
  else
    cat /tmp/log >&2
    reason=$(sed -n 's/^error[^:]*: //p' /tmp/log | head -n 1)
    echo "warning: the standard library cannot be built from source (${reason:-no reason given}); with the prebuilt one, the binary is larger and behaves the same" >&2
    echo prebuilt >/tmp/std
    compile_prebuilt
  fi
elif [ "$(cat /tmp/std)" = small ]; then
  compile_small
else
  compile_prebuilt
fi
cp "target/$target/release/mood" /mood
