package scenarios

import (
	"fmt"
	"testing"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"keepstone.io/e2e/harness"
)

// TestHelm upgrades, rolls back, uninstalls and installs the operator, while a cluster serves that none of it touches.
func TestHelm(t *testing.T) {
	w := harness.New(t)
	client := w.Found("main", 3)
	before := w.Pods("main")
	same := func(after string) {
		t.Helper()
		w.AwaitSettled("main", 3)
		client.AwaitPuts(20)
		for i, pod := range w.Pods("main") {
			restarts := before[i].Status.ContainerStatuses[0].RestartCount
			if pod.UID != before[i].UID || pod.Status.ContainerStatuses[0].RestartCount != restarts {
				t.Errorf("%s was restarted after %s", pod.Name, after)
			}
		}
		w.Say("%s is done", after)
	}
	w.InstallOperator("image.tag="+harness.NextVersion, "logging.level=debug")
	same("the upgrade")
	w.Helm.Run("rollback", "--wait", "--namespace", harness.OperatorNamespace, harness.OperatorName)
	same("the rollback")
	w.Helm.Run("uninstall", "--wait", "--namespace", harness.OperatorNamespace, harness.OperatorName)
	client.AwaitPuts(50)
	w.KillPod("main-0")
	client.AwaitPuts(20)
	before = w.Pods("main")
	w.InstallOperator()
	same("the new installation")
	client.Stop()
}

// TestClusterChart has a cluster as a Helm release.
func TestClusterChart(t *testing.T) {
	w := harness.New(t)
	w.Helm.Run("install", "--namespace", w.Namespace, "main", harness.Chart("keepstone-cluster"), "--set", "spec.size=1")
	w.AwaitSettled("main", 1)
	client := w.StartClient("main")
	w.Helm.Run("upgrade", "--namespace", w.Namespace, "main", harness.Chart("keepstone-cluster"), "--set", "spec.size=3")
	w.AwaitSettled("main", 3)
	client.Stop()
	w.Helm.Run("uninstall", "--namespace", w.Namespace, "main")
	w.AwaitGone(harness.Clusters, "main")
}

// TestDeletion deletes a paused cluster, whose volumes go with it, and one whose volumes stay for a second one of its name.
func TestDeletion(t *testing.T) {
	w := harness.New(t)
	claims := func(want int) func() error {
		return func() error {
			all, err := w.Kube.CoreV1().PersistentVolumeClaims(w.Namespace).List(w.Ctx, meta.ListOptions{})
			if err == nil && len(all.Items) != want {
				err = fmt.Errorf("%d claims, want %d", len(all.Items), want)
			}
			return err
		}
	}
	w.Apply("%s", harness.Cluster("gone", "size: 1", "deletionPolicy: Delete"))
	w.Apply("%s", harness.Cluster("kept", "size: 1"))
	w.AwaitSettled("gone", 1)
	w.AwaitSettled("kept", 1)
	w.Patch(harness.Clusters, "gone", `{"spec":{"paused":true}}`)
	for _, name := range []string{"gone", "kept"} {
		if err := w.Dynamic.Resource(harness.Clusters).Namespace(w.Namespace).Delete(w.Ctx, name, meta.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"gone", "kept"} {
		w.AwaitGone(harness.Clusters, name)
		w.Eventually("the pods go", func() error {
			if n := len(w.Pods(name)); n != 0 {
				return fmt.Errorf("%d pods", n)
			}
			return nil
		})
	}
	w.Eventually("one volume is left", claims(1))
}

// TestGoClient runs applications as a Deployment, while the members are restarted by an order.
func TestGoClient(t *testing.T) {
	w := harness.New(t)
	w.Apply("%s", harness.Cluster("main", "size: 3", harness.Quick))
	w.AwaitSettled("main", 3)
	clients := w.StartDeployment("main", 2)
	before := w.Pods("main")
	w.Apply(`apiVersion: keepstone.io/v1alpha1
kind: EtcdOperation
metadata: {name: restart}
spec: {clusterRef: {name: main}, restartMembers: {}}
`)
	w.Await(harness.Operations, "restart", "done", succeeded)
	w.AwaitSettled("main", 3)
	for i, pod := range w.Pods("main") {
		if pod.UID == before[i].UID {
			t.Errorf("%s was not restarted", pod.Name)
		}
	}
	for _, client := range clients {
		client.AwaitPuts(20)
		client.Stop()
	}
}
