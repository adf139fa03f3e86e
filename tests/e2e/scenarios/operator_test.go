package scenarios

import (
	"fmt"
	"testing"

	core "k8s.io/api/core/v1"

	"keepstone.io/e2e/harness"
)

// TestOperatorKilled kills all operators again and again while a cluster grows, changes its version and shrinks.
func TestOperatorKilled(t *testing.T) {
	w := harness.New(t)
	client := w.Found("main", 1, harness.Crowded("main"), harness.Quick)
	for _, change := range []struct {
		spec string
		size int
	}{{`{"spec":{"size":3}}`, 3}, {`{"spec":{"version":"` + harness.NextVersion + `"}}`, 3}, {`{"spec":{"size":1}}`, 1}} {
		w.Patch(harness.Clusters, "main", "%s", change.spec)
		w.Await(harness.Clusters, "main", "at work", func(o *harness.Object) error {
			if harness.Text(o, "status", "operation", "type") == "" {
				return fmt.Errorf("nothing is under way")
			}
			return nil
		})
		w.KillOperator()
		w.AwaitSettled("main", change.size)
	}
	client.Stop()
}

// learners are how many members the status says are one.
func learners(o *harness.Object) (n int) {
	for _, m := range harness.Items(o, "status", "members") {
		if learner, _ := m.Object["isLearner"].(bool); learner {
			n++
		}
	}
	return n
}

// TestKilledAfterMemberAdd has the operator die when a member was added to the table, and before anything was done for it.
func TestKilledAfterMemberAdd(t *testing.T) {
	w := harness.New(t)
	client := w.Found("main", 1, harness.Quick)
	allow := w.HoldScaling("main", true)
	w.Patch(harness.Clusters, "main", `{"spec":{"size":3}}`)
	w.Await(harness.Clusters, "main", "with a member added", func(o *harness.Object) error {
		if learners(o) != 1 {
			return fmt.Errorf("%d learners", learners(o))
		}
		return nil
	})
	if n := len(w.Pods("main")); n != 1 {
		t.Fatalf("%d pods: this is later than what is tried", n)
	}
	w.KillOperator()
	allow()
	w.AwaitSettled("main", 3)
	client.Stop()
}

// TestKilledBeforePromote has it die while a learner's pod waits for a node, and come back when the learner has caught up.
func TestKilledBeforePromote(t *testing.T) {
	w := harness.New(t)
	client := w.Found("main", 1, harness.Quick)
	w.Cordon(true, w.Nodes()...)
	w.Patch(harness.Clusters, "main", `{"spec":{"size":3}}`)
	w.AwaitPod("main-1", func(pod *core.Pod) bool { return pod.Status.Phase == core.PodPending })
	w.ScaleOperator(0)
	w.Cordon(false, w.Nodes()...)
	w.AwaitPod("main-1", func(pod *core.Pod) bool { return pod.Status.Phase == core.PodRunning })
	client.AwaitPuts(50)
	if n := learners(w.Get(harness.Clusters, "main")); n != 1 {
		t.Fatalf("%d learners: this is not what is tried", n)
	}
	w.ScaleOperator(2)
	w.AwaitSettled("main", 3)
	client.Stop()
}

// TestKilledAfterMemberRemove has it die when a member has left the table, and its pod and volume are still there.
func TestKilledAfterMemberRemove(t *testing.T) {
	w := harness.New(t)
	client := w.Found("main", 3, harness.Quick)
	allow := w.HoldScaling("main", false)
	w.Patch(harness.Clusters, "main", `{"spec":{"size":1}}`)
	w.Await(harness.Clusters, "main", "with a member removed", func(o *harness.Object) error {
		if n := harness.Number(o, "status", "memberCount"); n != 2 {
			return fmt.Errorf("%d members", n)
		}
		return nil
	})
	if n := len(w.Pods("main")); n != 3 {
		t.Fatalf("%d pods: this is later than what is tried", n)
	}
	w.KillOperator()
	allow()
	w.AwaitSettled("main", 1)
	client.Stop()
}

// TestKilledMidRoll has it die when a pod was deleted for a new version, and no other can come up yet.
func TestKilledMidRoll(t *testing.T) {
	w := harness.New(t)
	client := w.Found("main", 3, harness.Quick)
	w.Cordon(true, w.Nodes()...)
	w.Patch(harness.Clusters, "main", `{"spec":{"version":%q}}`, harness.NextVersion)
	w.Eventually("a pod was deleted, and its successor waits", func() error {
		for _, pod := range w.Pods("main") {
			if pod.Status.Phase == core.PodPending {
				return nil
			}
		}
		return fmt.Errorf("none waits")
	})
	w.KillOperator()
	client.AwaitPuts(50)
	w.Cordon(false, w.Nodes()...)
	w.Await(harness.Clusters, "main", "at the next version", runs(harness.NextVersion))
	client.Stop()
}

// TestTwoOperators cuts the operator that works off the network, while there is work: another takes over, and when the first
// is back there is still one.
func TestTwoOperators(t *testing.T) {
	w := harness.New(t)
	w.ScaleOperator(2)
	w.Apply("%s", harness.Cluster("main", "size: 1", harness.Crowded("main"), harness.Quick))
	w.AwaitSettled("main", 1)
	member := w.Pod("main-0").Spec.NodeName
	var pod, node string
	w.Eventually("an operator works on another node than the member is on", func() error {
		if pod = w.OperatorLeader(); pod == "" {
			return fmt.Errorf("none works")
		}
		for _, p := range w.OperatorPods() {
			if p.Name == pod && p.Spec.NodeName != member {
				node = p.Spec.NodeName
				return nil
			}
		}
		// Let the other one have it.
		w.KillOperatorPod(pod)
		return fmt.Errorf("%s works beside the member", pod)
	})
	client := w.StartClient("main", member)
	w.Say("%s works on %s, which is cut off", pod, node)
	if err := w.Driver.CutNode(w.Ctx, node); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Driver.JoinNode(w.Ctx, node) })
	w.Cordon(true, node)
	w.Patch(harness.Clusters, "main", `{"spec":{"size":2}}`)
	w.AwaitSettled("main", 2)
	if now := w.OperatorLeader(); now == pod {
		t.Errorf("%s still holds the lease", now)
	}
	if err := w.Driver.JoinNode(w.Ctx, node); err != nil {
		t.Fatal(err)
	}
	w.AwaitNode(node, true)
	w.Cordon(false, node)
	w.Patch(harness.Clusters, "main", `{"spec":{"size":3}}`)
	w.AwaitSettled("main", 3)
	client.Stop()
}
