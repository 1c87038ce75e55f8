# syntax=docker/dockerfile:1
# docker build -t counterfoil . && docker run -p 8000:8000 -v counterfoil:/var/lib/counterfoil \
#     -e COUNTERFOIL_ISSUER=https://tokens.example -e COUNTERFOIL_KEYS__GENERATE=true counterfoil

FROM rust:1-slim-bookworm AS build
# The crypto library and the allocator are compiled from C.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev make && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
RUN cargo build --release --locked --bin counterfoil

FROM debian:bookworm-slim
# For TLS to PostgreSQL where sslrootcert names the system's certificates.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/counterfoil --create-home counterfoil
COPY --from=build /build/target/release/counterfoil /usr/local/bin/counterfoil
COPY Rocket.toml /etc/counterfoil/Rocket.toml
ENV ROCKET_PROFILE=release ROCKET_CONFIG=/etc/counterfoil/Rocket.toml ROCKET_ADDRESS=0.0.0.0
USER counterfoil
WORKDIR /var/lib/counterfoil
# The SQLite database and a generated key live here; with PostgreSQL and keys.file nothing does.
VOLUME /var/lib/counterfoil
EXPOSE 8000
STOPSIGNAL SIGTERM
# The image has no HTTP client on purpose: let the orchestrator ask GET /livez and GET /readyz.
ENTRYPOINT ["counterfoil"]
CMD ["serve"]
