package scenarios

import (
	"fmt"
	"testing"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"keepstone.io/e2e/harness"
)

// TestPodsKilled kills each member's pod, the leader's among them.
func TestPodsKilled(t *testing.T) {
	w := harness.New(t)
	client := w.Found("main", 3)
	for _, pod := range w.Pods("main") {
		w.Say("kill %s, while %s leads", pod.Name, w.Leader("main"))
		w.KillPod(pod.Name)
		w.AwaitSettled("main", 3)
		client.AwaitPuts(20)
	}
	client.Stop()
}

// TestAllPodsAtOnce kills all members at once, and the operator with them, which stays away: they find each other alone.
func TestAllPodsAtOnce(t *testing.T) {
	w := harness.New(t)
	client := w.Found("main", 3)
	w.ScaleOperator(0)
	before := map[string]any{}
	now := int64(0)
	for _, pod := range w.Pods("main") {
		before[pod.Name] = pod.UID
		if err := w.Kube.CoreV1().Pods(w.Namespace).Delete(w.Ctx, pod.Name, meta.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
			t.Fatal(err)
		}
	}
	for name, uid := range before {
		w.AwaitPod(name, func(pod *core.Pod) bool { return any(pod.UID) != uid && harness.Ready(pod) })
	}
	client.AwaitPuts(50)
	w.Say("all members serve again, without an operator")
	w.ScaleOperator(2)
	w.AwaitSettled("main", 3)
	client.Stop()
}

// TestVolumesLost takes each member's volume away, with all that is in it: the member is replaced by one with another ID.
func TestVolumesLost(t *testing.T) {
	w := harness.New(t)
	client := w.Found("main", 3, harness.Quick)
	for _, pod := range w.Pods("main") {
		before := w.Get(harness.Clusters, "main")
		w.Say("the volume of %s is lost, while %s leads", pod.Name, harness.Text(before, "status", "leader"))
		claims := w.Kube.CoreV1().PersistentVolumeClaims(w.Namespace)
		claim, err := claims.Get(w.Ctx, "data-"+pod.Name, meta.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := claims.Delete(w.Ctx, claim.Name, meta.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		now := int64(0)
		if err := w.Kube.CoreV1().Pods(w.Namespace).Delete(w.Ctx, pod.Name, meta.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
			t.Fatal(err)
		}
		w.Eventually("the old claim is gone", func() error {
			now, err := claims.Get(w.Ctx, claim.Name, meta.GetOptions{})
			if err == nil && now.UID == claim.UID {
				return fmt.Errorf("%s is there", claim.Name)
			}
			return nil
		})
		w.Await(harness.Clusters, "main", "replaced", harness.All(harness.Changed(pod.Name, before), harness.Settled(3)))
		w.Say("%s is replaced", pod.Name)
		client.AwaitPuts(20)
	}
	client.Stop()
}
