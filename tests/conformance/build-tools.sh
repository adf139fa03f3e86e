#!/bin/sh
# Builds what the conformance tests run beside the server under test: etcd, etcdctl, etcdutl and etcd's own
# tests/common as common.test, at the versions of go.mod, into the directory named (default: target/etcd-tools).
# Does nothing when they are already there for this go.mod and Go.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:-$here/../../target/etcd-tools}"
dir=$(cd "${1:-$here/../../target/etcd-tools}" && pwd)
cd "$here"

exec 9>"$dir/.lock"
flock 9
stamp=$(cat go.mod go.sum build-tools.sh | sha256sum | cut -c1-64)-$(go env GOVERSION)
if [ "$(cat "$dir/.stamp" 2>/dev/null)" = "$stamp" ]; then
    exit 0
fi

version=$(go list -m -f '{{.Version}}' go.etcd.io/etcd/server/v3)
for tool in etcd:server etcdctl:etcdctl etcdutl:etcdutl; do
    name=${tool%%:*}
    go build -trimpath -ldflags "-s -w -X go.etcd.io/etcd/api/v3/version.GitSHA=$version" \
        -o "$dir/$name.new" "go.etcd.io/etcd/${tool#*:}/v3"
    mv "$dir/$name.new" "$dir/$name"
done
go test -trimpath -ldflags "-s -w" -tags e2e -c -o "$dir/common.test.new" go.etcd.io/etcd/tests/v3/common
mv "$dir/common.test.new" "$dir/common.test"
echo "$stamp" >"$dir/.stamp"
