# Turns the builder into a cross compiler for arm64. The context contains gcc.tar (the cross compiler) and musl.tar (musl and
# libunwind for arm64).
ARG BASE
FROM ${BASE}
COPY gcc.tar musl.tar libunwind-stubs.c /
# The specs of GCC contain the path of this musl.
RUN tar -xf /gcc.tar -C / --keep-directory-symlink --exclude=./dev --exclude=./etc \
    && mkdir -p /opt/arm64 && tar -xf /musl.tar -C /opt/arm64 --wildcards '*aarch64-linux-musl*' '*libunwind.a*' \
    && rm /gcc.tar /musl.tar /opt/unwind/* \
    && sed 's|/usr/|/opt/arm64/usr/|g' /opt/arm64/usr/lib/aarch64-linux-musl/musl-gcc.specs > /opt/arm64/musl-gcc.specs \
    && printf '#!/bin/sh\nexec aarch64-linux-gnu-gcc "$@" -specs /opt/arm64/musl-gcc.specs\n' > /usr/local/bin/arm64-musl-gcc \
    && chmod +x /usr/local/bin/arm64-musl-gcc \
    && cp -L "$(find /opt/arm64 -name libunwind.a | head -n 1)" /opt/unwind/libunwind.a \
    && arm64-musl-gcc -Os -c /libunwind-stubs.c -o /opt/unwind/stubs.o \
    && aarch64-linux-gnu-ar r /opt/unwind/libunwind.a /opt/unwind/stubs.o
ENV BUILDER_FLAGS="-Clink-self-contained=no -Clinker=arm64-musl-gcc -L/opt/unwind"
