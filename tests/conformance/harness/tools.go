// Package harness starts servers for the conformance tests and finds the programs they need. It never decides what is
// right: that is the tests' and etcd's business.
package harness

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// UnderTest is the server binary to be judged: KEEPSTONE_BIN, else the debug build of this checkout.
func UnderTest(t testing.TB) string {
	return find(t, "KEEPSTONE_BIN", "target/debug/keepstone", "cargo build -p keepstone")
}

// Etcd is the real etcd: ETCD_BIN, else what build-tools.sh leaves in its default directory.
func Etcd(t testing.TB) string { return tool(t, "ETCD_BIN", "etcd") }

// Etcdctl is the real etcdctl: ETCDCTL_BIN, else what build-tools.sh leaves in its default directory.
func Etcdctl(t testing.TB) string { return tool(t, "ETCDCTL_BIN", "etcdctl") }

// Etcdutl is the real etcdutl: ETCDUTL_BIN, else what build-tools.sh leaves in its default directory.
func Etcdutl(t testing.TB) string { return tool(t, "ETCDUTL_BIN", "etcdutl") }

// tool looks at env first, then into the directory ETCD_TOOLS, then into build-tools.sh's default.
func tool(t testing.TB, env, name string) string {
	t.Helper()
	if dir := os.Getenv("ETCD_TOOLS"); dir != "" && os.Getenv(env) == "" {
		return must(t, filepath.Join(dir, name), "tests/conformance/build-tools.sh "+dir)
	}
	return find(t, env, "target/etcd-tools/"+name, "tests/conformance/build-tools.sh")
}

func find(t testing.TB, env, fallback, remedy string) string {
	t.Helper()
	if path := os.Getenv(env); path != "" {
		return must(t, path, "set "+env+" to an executable")
	}
	_, here, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(here), "..", "..", "..")
	return must(t, filepath.Join(root, fallback), "set "+env+" or run: "+remedy)
}

// must fails rather than skips: a test that quietly did not run proves nothing.
func must(t testing.TB, path, remedy string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode()&0o111 == 0 {
		t.Fatalf("no executable %s; %s", path, remedy)
	}
	return path
}
