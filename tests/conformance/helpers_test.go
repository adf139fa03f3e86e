package conformance

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keepstone.io/conformance/harness"
)

// start runs a fresh server and returns a client of it; the test runs beside others.
func start(t *testing.T, flags ...string) (context.Context, *harness.Server, *clientv3.Client) {
	t.Helper()
	t.Parallel()
	server := harness.Start(t, harness.UnderTest(t), harness.Flags(flags...))
	return harness.Context(t), server, server.Client()
}

// must is for calls whose failure ends the test: must(client.Get(ctx, "k"))(t).
func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		require.NoError(t, err)
		return value
	}
}

func keys(kvs []*mvccpb.KeyValue) []string {
	names := []string{}
	for _, kv := range kvs {
		names = append(names, string(kv.Key))
	}
	return names
}

// refused wants a gRPC error with exactly this code and text.
func refused(t *testing.T, err error, code codes.Code, text string) {
	t.Helper()
	require.Error(t, err)
	s := status.Convert(err)
	require.Equal(t, text, s.Message())
	require.Equal(t, code, s.Code())
}

// values reads all keys under a prefix.
func values(ctx context.Context, t *testing.T, client *clientv3.Client, prefix string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, kv := range must(client.Get(ctx, prefix, clientv3.WithPrefix()))(t).Kvs {
		found[string(kv.Key)] = string(kv.Value)
	}
	return found
}
