//go:build tools

package robustness

// What etcd's robustness tests need to compile; named here only to keep it in go.mod.
import (
	_ "go.etcd.io/etcd/tests/v3/framework/integration"
	_ "go.etcd.io/etcd/tests/v3/robustness/scenarios"
	_ "go.etcd.io/etcd/tests/v3/robustness/validate"
)
