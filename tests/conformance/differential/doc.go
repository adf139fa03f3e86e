// Package differential sends the same seeded random history to a real etcd and to the server under test, and wants the
// same answer to every request, the same error, the same events and the same hash of the data. etcd against etcd must
// be equal as well: that proves the comparison itself.
package differential
