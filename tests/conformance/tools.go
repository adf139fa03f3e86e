//go:build tools

// Package conformance holds what a client may expect of Keepstone, written against etcd's official client and proven
// against etcd itself. This file only keeps in go.mod what etcd's own tests need to compile (see build-tools.sh).
package conformance

import (
	_ "go.etcd.io/etcd/tests/v3/common"
	_ "go.etcd.io/etcd/tests/v3/framework/e2e"
)
