# Two images, one program each and nothing else:
#   docker build --target keepstone -t keepstone/keepstone:v0.1.0 .
#   docker build --target keepstone-operator -t keepstone/keepstone-operator:v0.1.0 .
# `cargo xtask image` makes the same without Docker.

FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Flags for the target alone: with a triple named, build scripts are spared them.
RUN triple=$(rustc -vV | sed -n 's/^host: //p') \
 && RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --release --target "$triple" \
        -p keepstone -p keepstone-operator \
 && install -D -m 0755 "target/$triple/release/keepstone" /images/keepstone/usr/local/bin/keepstone \
 && install -D -m 0755 "target/$triple/release/keepstone-operator" \
        /images/keepstone-operator/usr/local/bin/keepstone-operator \
 && ln -s keepstone /images/keepstone/usr/local/bin/etcd \
 && ln -s keepstone-operator /images/keepstone-operator/usr/local/bin/kubectl-keepstone \
 && install -d -m 0700 -o 65532 -g 65532 /images/keepstone/var/lib/keepstone

FROM scratch AS keepstone
COPY --from=build /images/keepstone/ /
ENV PATH=/usr/local/bin
# A number: a kubelet can't tell that a name is not root's.
USER 65532:65532
WORKDIR /var/lib/keepstone
EXPOSE 2379 2380 2381
ENTRYPOINT ["/usr/local/bin/keepstone"]

FROM scratch AS keepstone-operator
COPY --from=build /images/keepstone-operator/ /
ENV PATH=/usr/local/bin
USER 65532:65532
WORKDIR /
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/keepstone-operator"]
