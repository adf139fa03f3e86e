package scenarios

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"keepstone.io/e2e/harness"
)

// TestMajorityLost takes two of three members' volumes at once. Nothing is done by itself: the condition names the command,
// and by it the cluster goes on from the one that is left, as a cluster with a new ID and with all its data.
func TestMajorityLost(t *testing.T) {
	w := harness.New(t)
	client := w.Found("main", 3, harness.Quick, "recovery: {quorumLoss: {after: 5s}}")
	client.AwaitPuts(200)
	client.Stop()
	w.AwaitSettled("main", 3)
	id := harness.Text(w.Get(harness.Clusters, "main"), "status", "clusterID")

	leader := w.Leader("main")
	survivor := ""
	now := int64(0)
	for _, pod := range w.Pods("main") {
		if survivor == "" && pod.Name != leader {
			survivor = pod.Name
			continue
		}
		if err := w.Kube.CoreV1().PersistentVolumeClaims(w.Namespace).Delete(w.Ctx, "data-"+pod.Name, meta.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := w.Kube.CoreV1().Pods(w.Namespace).Delete(w.Ctx, pod.Name, meta.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
			t.Fatal(err)
		}
	}
	w.Say("%s is left; %s led", survivor, leader)
	w.Await(harness.Clusters, "main", "said to have lost its quorum", harness.Has("Available", "False", "QuorumLost"))
	w.Await(harness.Clusters, "main", "with the command that recovers it", func(o *harness.Object) error {
		command := fmt.Sprintf("kubectl keepstone recover-quorum main --survivor %s", survivor)
		for _, kind := range []string{"Available", "Progressing", "Degraded", "Ready"} {
			if _, _, message := harness.Condition(o, kind); strings.Contains(message, command) {
				return nil
			}
		}
		return fmt.Errorf("no condition names %q", command)
	})
	w.Say("it is told what can be done")
	w.Apply(`apiVersion: keepstone.io/v1alpha1
kind: EtcdOperation
metadata: {name: recover}
spec: {clusterRef: {name: main}, recoverQuorum: {survivor: %s, confirm: main/%s}}
`, survivor, id)
	w.Await(harness.Operations, "recover", "done", succeeded)
	w.Await(harness.Clusters, "main", "another cluster", harness.All(harness.Settled(3), func(o *harness.Object) error {
		if harness.Text(o, "status", "clusterID") == id {
			return errors.New("the cluster has its old ID")
		}
		return nil
	}))
	claims, err := w.Kube.CoreV1().PersistentVolumeClaims(w.Namespace).List(w.Ctx, meta.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	place := survivor[strings.LastIndex(survivor, "-"):]
	if !slices.ContainsFunc(claims.Items, func(c core.PersistentVolumeClaim) bool {
		return strings.HasPrefix(c.Name, "saved-main-") && strings.HasSuffix(c.Name, place)
	}) {
		t.Errorf("no claim holds what %s had before", survivor)
	}
	again := w.StartClient("main")
	again.MustHave(client)
	again.AwaitPuts(50)
	again.Stop()
}

// succeeded is an operation's end.
func succeeded(o *harness.Object) error {
	if phase := harness.Text(o, "status", "phase"); phase != "Succeeded" {
		return fmt.Errorf("it is %s: %s", phase, harness.Text(o, "status", "message"))
	}
	return nil
}
