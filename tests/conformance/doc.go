// Package conformance holds what a client may expect of Keepstone, written with etcd's official client and proven
// against etcd itself: every test here passes with KEEPSTONE_BIN naming a real etcd 3.6.
package conformance
