//go:build tools

package conformance

// What etcd's own tests need to compile (see build-tools.sh); named here only to keep it in go.mod.
import (
	_ "go.etcd.io/etcd/tests/v3/common"
	_ "go.etcd.io/etcd/tests/v3/framework/e2e"
)
