package scenarios

import (
	"fmt"
	"testing"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"keepstone.io/e2e/harness"
)

// leads is the leader's pod and its node, and another node, for the client.
func leads(w *harness.World, cluster string) (pod, node, other string) {
	w.T.Helper()
	pod = w.Leader(cluster)
	node = w.Pod(pod).Spec.NodeName
	for _, other := range w.Nodes() {
		if other != node {
			return pod, node, other
		}
	}
	w.T.Fatal("there is one node only")
	return "", "", ""
}

// TestDrain drains one node and tries another: the budget gives one member away, and no second one.
func TestDrain(t *testing.T) {
	w := harness.New(t)
	client := w.Found("main", 3)
	pods := w.Pods("main")
	first, second := pods[0], pods[1]
	w.Cordon(true, first.Spec.NodeName)
	w.Eventually("the first is evicted", func() error { return w.Evict(first.Name) })
	// It finds no node: there is a member on each of the others.
	w.AwaitPod(first.Name, func(pod *core.Pod) bool { return pod.UID != first.UID && pod.Status.Phase == core.PodPending })
	w.Await(harness.Clusters, "main", "degraded", harness.Has("Degraded", "True"))
	if err := w.Evict(second.Name); !apierrors.IsTooManyRequests(err) {
		t.Errorf("a second member may be evicted: %v", err)
	}
	client.AwaitPuts(50)
	w.Cordon(false, first.Spec.NodeName)
	w.AwaitSettled("main", 3)
	client.Stop()
}

// TestNodeKilled cuts the power of the node that the leader is on. The rest goes on; with the node the member comes back.
func TestNodeKilled(t *testing.T) {
	lose(t, func(w *harness.World, node string) error { return w.Driver.FailNode(w.Ctx, node) },
		func(w *harness.World, node string) error { return w.Driver.BootNode(w.Ctx, node) })
}

// TestNodeCut takes the leader's node off the network, where the member goes on by itself, and puts it back.
func TestNodeCut(t *testing.T) {
	lose(t, func(w *harness.World, node string) error { return w.Driver.CutNode(w.Ctx, node) },
		func(w *harness.World, node string) error { return w.Driver.JoinNode(w.Ctx, node) })
}

func lose(t *testing.T, away, back func(*harness.World, string) error) {
	w := harness.New(t)
	w.Apply("%s", harness.TenLines("main"))
	w.AwaitSettled("main", 3)
	pod, node, other := leads(w, "main")
	client := w.StartClient("main", other)
	if pod = w.Leader("main"); w.Pod(pod).Spec.NodeName == other {
		t.Fatalf("the client is on the leader's node")
	}
	w.Say("%s leads on %s, which is lost", pod, node)
	if err := away(w, node); err != nil {
		t.Fatal(err)
	}
	lost := true
	t.Cleanup(func() {
		if lost {
			_ = back(w, node)
		}
	})
	client.AwaitPuts(50)
	w.Say("clients write again, after %.2f s", client.Summary().LongestPause.Seconds())
	w.AwaitNode(node, false)
	w.Await(harness.Clusters, "main", "degraded and available, under another leader", harness.All(
		harness.Has("Degraded", "True"), harness.Has("Available", "True"), func(o *harness.Object) error {
			if leader := harness.Text(o, "status", "leader"); leader == "" || leader == pod {
				return fmt.Errorf("the leader is %q", leader)
			}
			return nil
		}))
	w.Say("it is told")
	client.AwaitPuts(50)
	if err := back(w, node); err != nil {
		t.Fatal(err)
	}
	lost = false
	w.AwaitNode(node, true)
	w.AwaitSettled("main", 3)
	client.AwaitPuts(50)
	client.Stop()
}
