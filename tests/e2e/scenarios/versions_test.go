package scenarios

import (
	"errors"
	"fmt"
	"testing"

	"keepstone.io/e2e/harness"
)

func runs(version string) func(*harness.Object) error {
	return harness.All(harness.Has("AllMembersUpdated", "True"), harness.Settled(3), func(o *harness.Object) error {
		if got := harness.Text(o, "status", "currentVersion"); got != version {
			return fmt.Errorf("it runs %s", got)
		}
		return nil
	})
}

// TestVersions changes the version pod by pod, and back again.
func TestVersions(t *testing.T) {
	w := harness.New(t)
	client := w.Found("main", 3, harness.Quick)
	w.Patch(harness.Clusters, "main", `{"spec":{"version":%q}}`, harness.NextVersion)
	w.Await(harness.Clusters, "main", "at the next version", runs(harness.NextVersion))
	w.Say("all run %s", harness.NextVersion)
	w.Patch(harness.Clusters, "main", `{"spec":{"version":%q,"updateStrategy":{"allowDowngrade":true}}}`, harness.Version)
	w.Await(harness.Clusters, "main", "at the version before", runs(harness.Version))
	w.Say("all run %s again", harness.Version)
	s := client.Stop()
	t.Logf("the longest pause that a client saw in two rolling changes: %v", s.LongestPause)
}

// TestBadVersion is one that there is no image of: the first pod fails, no other is touched, it is told, and the old spec
// puts it right.
func TestBadVersion(t *testing.T) {
	w := harness.New(t)
	client := w.Found("main", 3, harness.Quick)
	w.Patch(harness.Clusters, "main", `{"spec":{"version":"v0.1.7"}}`)
	w.Await(harness.Clusters, "main", "said to be degraded by it", harness.Has("Degraded", "True", "ImagePullFailed", "UpgradeStuck"))
	w.Say("the failure is told")
	client.AwaitPuts(50)
	touched := 0
	for _, pod := range w.Pods("main") {
		if !harness.Ready(&pod) {
			touched++
		}
	}
	if touched != 1 {
		t.Errorf("%d pods were touched, where the first did not come up", touched)
	}
	w.Await(harness.Clusters, "main", "available all the while", harness.Has("Available", "True"))
	w.Patch(harness.Clusters, "main", `{"spec":{"version":%q}}`, harness.Version)
	w.Await(harness.Clusters, "main", "as it was", runs(harness.Version))
	client.Stop()
}

// TestHibernate sends a cluster to sleep and wakes it: the same cluster, with the same data.
func TestHibernate(t *testing.T) {
	w := harness.New(t)
	client := w.Found("main", 3)
	id := harness.Text(w.Get(harness.Clusters, "main"), "status", "clusterID")
	w.Patch(harness.Clusters, "main", `{"spec":{"hibernate":true}}`)
	w.Await(harness.Clusters, "main", "hibernated", harness.Has("Available", "False", "Hibernated"))
	w.Eventually("there are no pods", func() error {
		if n := len(w.Pods("main")); n != 0 {
			return fmt.Errorf("%d pods", n)
		}
		return nil
	})
	w.Say("it sleeps")
	w.Patch(harness.Clusters, "main", `{"spec":{"hibernate":false}}`)
	w.AwaitSettled("main", 3)
	w.Await(harness.Clusters, "main", "the same", func(o *harness.Object) error {
		if harness.Text(o, "status", "clusterID") != id {
			return errors.New("the cluster has another ID")
		}
		return nil
	})
	client.AwaitPuts(50)
	client.Stop()
}
