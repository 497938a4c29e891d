# A builder for Dockerfile.scratch from Debian packages. Its context holds vendor.tar: all crates.
ARG BASE
FROM ${BASE}
COPY vendor.tar cargo-config.toml libunwind-stubs.c /
# Debian's Rust has no musl target: the standard library is built from source, whose own crates lie beside it, and
# unwinds with LLVM's libunwind. libgcc_eh will not do: it wants glibc.
RUN mkdir -p /vendor /opt/unwind /root/.cargo \
    && tar -xf /vendor.tar -C /vendor && rm /vendor.tar \
    && cp -rn /usr/lib/rustlib/src/rust/library/vendor/. /vendor/ \
    && mv /cargo-config.toml /root/.cargo/config.toml \
    && cp -L "$(ls /usr/lib/llvm-*/lib/libunwind.a | head -n 1)" /opt/unwind/libunwind.a \
    && musl-gcc -Os -c /libunwind-stubs.c -o /opt/unwind/stubs.o \
    && ar r /opt/unwind/libunwind.a /opt/unwind/stubs.o
ENV BUILDER_FLAGS="-Clink-self-contained=no -Clinker=musl-gcc -L/opt/unwind"
