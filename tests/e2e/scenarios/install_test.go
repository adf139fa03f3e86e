package scenarios

import (
	"testing"
	"time"

	"keepstone.io/e2e/harness"
)

// TestTenLines installs the operator and applies the smallest manifest there is: three members, encrypted, serving.
func TestTenLines(t *testing.T) {
	w := harness.New(t)
	applied := time.Now()
	w.Apply("%s", harness.TenLines("main"))
	w.Await(harness.Clusters, "main", "available", harness.Has("Available", "True"))
	w.Say("available %.1f s after it was applied", time.Since(applied).Seconds())
	w.Await(harness.Clusters, "main", "certificates", harness.Has("TLSReady", "True"))
	client := w.StartClient("main")
	w.AwaitSettled("main", 3)
	w.Say("settled %.1f s after it was applied", time.Since(applied).Seconds())
	client.AwaitPuts(100)
	client.Stop()
}
