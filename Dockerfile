# The service as an image: a build stage with the compiler, a runtime stage with the one binary.
#
#     docker build -t wigzo-destination .
#     docker build --build-arg GUIDED=yes -t wigzo-destination .    # a tenth less work for each event; builds twice
#     docker build --build-arg BUILD_COMMIT=$(git rev-parse --short=12 HEAD) -t wigzo-destination .    # for --version
#     docker run -p 8080:8080 -v wigzo-data:/data -e WIGZO_ORG_TOKEN=… -e WIGZO_SOURCE_KEYS=… wigzo-destination
#
# Plain Dockerfile syntax, without a `# syntax=` line and without cache mounts: it builds with every builder, and with
# nothing from the network but the two base images and the crates. (A guided build also fetches a part of the compiler's
# toolchain.)

# === Build ===

# The version is `rust-version` of Cargo.toml (a test compares them). Bookworm, because the runtime stage is bookworm
# too: the binary must not ask for a newer glibc than it will find.
FROM rust:1.95-bookworm AS build
WORKDIR /build
# If not empty, the service is compiled with a profile of itself: scripts/guided.sh.
ARG GUIDED=

# The dependencies in a layer of their own, built against an empty crate: it is made again only when Cargo.toml or
# Cargo.lock change. A layer is kept and shared by every builder and registry cache; a cache mount stays on one machine,
# and with a mounted target directory cargo may take an older check-out (older file times) for up to date. cargo-chef
# does the same as these lines and would have to be compiled first.
# aws-lc, SQLite, mimalloc and zstd are compiled from source by the C compiler that is in this image; nothing else is
# needed.
COPY .cargo .cargo
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src benches \
    && echo '//! Stands in for the crate while its dependencies are built.' | tee src/lib.rs > src/main.rs \
    && echo 'fn main() {}' >> src/main.rs \
    # cargo wants every benchmark that Cargo.toml names to exist.
    && awk '/^\[/ { bench = ($0 == "[[bench]]") } bench && $1 == "name" { gsub(/"/, "", $3); print $3 }' Cargo.toml \
       | while read -r bench; do echo 'fn main() {}' > "benches/$bench.rs"; done \
    # A guided build compiles the dependencies in its own way, later.
    && if [ -z "$GUIDED" ]; then \
           cargo build --profile dist --locked \
           # Out with the stand-in: the real files may be older than it, and cargo goes by their times.
           && cargo clean --profile dist --locked -p wigzo-destination; \
       fi \
    && rm -r src

COPY config config
COPY build.rs ./
COPY src src
# What a guided build needs: its script, and the load.
COPY scripts/guided.sh scripts/
COPY benches/end_to_end/Cargo.toml benches/end_to_end/Cargo.lock benches/end_to_end/
COPY benches/end_to_end/src benches/end_to_end/src
# For `--version`: the commit, which is not in the context, and the seconds since 1970 that stand for the build date.
ARG BUILD_COMMIT=
ARG SOURCE_DATE_EPOCH=
RUN mkdir -p /image/data \
    && if [ -n "$GUIDED" ]; then \
           scripts/guided.sh && cp target/guided/wigzo-destination /image/; \
       else \
           cargo build --profile dist --locked --bin wigzo-destination && cp target/dist/wigzo-destination /image/; \
       fi

# === Runtime ===

# Distroless rather than scratch with a static binary: the service trusts the system's certificates (rustls reads them
# by its platform verifier), so the image needs CA certificates that somebody keeps up to date, and a glibc build is the
# one that is tested. `cc` brings glibc, libgcc and the certificates: no shell, no package manager, about 25 MB.
FROM gcr.io/distroless/cc-debian12:nonroot

LABEL org.opencontainers.image.title="wigzo-destination" \
      org.opencontainers.image.description="Segment in, Wigzo out, nothing lost" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"

COPY LICENSE-MIT LICENSE-APACHE /licenses/
# An empty directory that belongs to the user: a new volume takes its owner from it.
COPY --from=build --chown=65532:65532 /image/data /data
COPY --from=build /image/wigzo-destination /wigzo-destination

# The environment outranks configuration files, so these hold whatever file is mounted. Inside a container "every
# address" is the container's own network; what reaches it is decided by what is published.
ENV WIGZO__INGRESS__LISTEN=0.0.0.0:8080 \
    WIGZO__QUEUE__PATH=/data

# Numbers, because an orchestrator that refuses root cannot look up names. 65532 is `nonroot`.
USER 65532:65532
VOLUME ["/data"]
EXPOSE 8080

# Asks /readyz of the address above; the command gives up after 3 s and says why. A drain ends with exit code 0 on SIGTERM.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["/wigzo-destination", "health"]
STOPSIGNAL SIGTERM

ENTRYPOINT ["/wigzo-destination"]
CMD ["serve"]
