package harness

import (
	"fmt"
	"slices"
	"strings"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func isNotFound(err error) bool { return apierrors.IsNotFound(err) }

// Condition is one of an object's, as "True (Reason): message".
func Condition(o *Object, kind string) (status, reason, message string) {
	for _, c := range Items(o, "status", "conditions") {
		if Text(c, "type") == kind {
			return Text(c, "status"), Text(c, "reason"), Text(c, "message")
		}
	}
	return "", "", ""
}

// Has is a condition for Await: a condition of the newest spec.
func Has(kind, status string, reasons ...string) func(*Object) error {
	return func(o *Object) error {
		got, reason, message := Condition(o, kind)
		if observed := Number(o, "status", "observedGeneration"); observed != o.GetGeneration() {
			return fmt.Errorf("generation %d, observed %d", o.GetGeneration(), observed)
		}
		if got != status || len(reasons) > 0 && !slices.Contains(reasons, reason) {
			return fmt.Errorf("%s is %s (%s): %s", kind, got, reason, message)
		}
		return nil
	}
}

// All are several conditions at once.
func All(conditions ...func(*Object) error) func(*Object) error {
	return func(o *Object) error {
		for _, condition := range conditions {
			if err := condition(o); err != nil {
				return err
			}
		}
		return nil
	}
}

// Settled is a cluster of so many healthy voters with nothing under way.
func Settled(size int) func(*Object) error {
	return All(Has("Ready", "True"), func(o *Object) error {
		members := Items(o, "status", "members")
		healthy := 0
		for _, m := range members {
			well, _ := m.Object["isHealthy"].(bool)
			learner, _ := m.Object["isLearner"].(bool)
			if well && !learner {
				healthy++
			}
		}
		if len(members) != size || healthy != size || Number(o, "status", "memberCount") != int64(size) {
			return fmt.Errorf("%d members, %d of them healthy voters, want %d", len(members), healthy, size)
		}
		return nil
	})
}

// TenLines is the smallest manifest that there is.
func TenLines(name string) string { return Cluster(name, "size: 3") }

// Cluster is a manifest with more lines of a spec.
func Cluster(name string, spec ...string) string {
	return fmt.Sprintf(`apiVersion: keepstone.io/v1alpha1
kind: EtcdCluster
metadata:
  name: %s
spec:
  version: %s
  %s
`, name, Version, strings.Join(spec, "\n  "))
}

// AwaitSettled waits until a cluster is.
func (w *World) AwaitSettled(name string, size int) *Object {
	w.T.Helper()
	began := time.Now()
	o := w.Await(Clusters, name, fmt.Sprintf("settled with %d members", size), Settled(size))
	w.Say("%s is settled with %d members after %.1f s", name, size, time.Since(began).Seconds())
	return o
}

// Leader is the name of the pod that leads.
func (w *World) Leader(name string) string {
	w.T.Helper()
	return Text(w.Get(Clusters, name), "status", "leader")
}

// Pods are a cluster's members' pods, by name.
func (w *World) Pods(cluster string) []core.Pod {
	w.T.Helper()
	list, err := w.Kube.CoreV1().Pods(w.Namespace).List(w.Ctx, meta.ListOptions{
		LabelSelector: "keepstone.io/cluster=" + cluster + ",app.kubernetes.io/component=member",
	})
	w.must(err)
	slices.SortFunc(list.Items, func(a, b core.Pod) int { return strings.Compare(a.Name, b.Name) })
	return list.Items
}

// Pod is one pod.
func (w *World) Pod(name string) *core.Pod {
	w.T.Helper()
	pod, err := w.Kube.CoreV1().Pods(w.Namespace).Get(w.Ctx, name, meta.GetOptions{})
	w.must(err)
	return pod
}

// KillPod deletes a pod without letting it end by itself, and waits until another one is ready in its place. That one may have
// been started anew meanwhile: what the API server has forgotten may still be ending, with the volume in its hands.
func (w *World) KillPod(name string) {
	w.T.Helper()
	old := w.Pod(name).UID
	now := int64(0)
	w.must(w.Kube.CoreV1().Pods(w.Namespace).Delete(w.Ctx, name, meta.DeleteOptions{GracePeriodSeconds: &now}))
	w.AwaitPod(name, func(pod *core.Pod) bool { return pod.UID != old && Ready(pod) })
}

// AwaitPod waits for a pod.
func (w *World) AwaitPod(name string, condition func(*core.Pod) bool) {
	w.T.Helper()
	w.Eventually("pod "+name, func() error {
		pod, err := w.Kube.CoreV1().Pods(w.Namespace).Get(w.Ctx, name, meta.GetOptions{})
		if err != nil {
			return err
		}
		if !condition(pod) {
			return fmt.Errorf("it is %s, ready %v, of %v", pod.Status.Phase, Ready(pod), pod.CreationTimestamp)
		}
		return nil
	})
}

// Ready is whether a pod is.
func Ready(pod *core.Pod) bool {
	return pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Status.Conditions, func(c core.PodCondition) bool {
		return c.Type == core.PodReady && c.Status == core.ConditionTrue
	})
}

// Found applies a cluster, waits until it is settled and starts a client.
func (w *World) Found(name string, size int, spec ...string) *Client {
	w.T.Helper()
	w.Apply("%s", Cluster(name, append([]string{fmt.Sprintf("size: %d", size)}, spec...)...))
	w.AwaitSettled(name, size)
	return w.StartClient(name)
}

// Quick is for clusters whose pods are renewed: there is nothing to see in the pauses.
const Quick = "updateStrategy: {pauseBetween: 2s}"

// Crowded lets several members share a node, as there are more of them than nodes.
func Crowded(name string) string {
	return fmt.Sprintf(`podTemplate:
    spec:
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector: {matchLabels: {keepstone.io/cluster: %s}}`, name)
}

// Member is what the status says of one.
func Member(o *Object, pod string) *Object {
	for _, m := range Items(o, "status", "members") {
		if Text(m, "name") == pod {
			return m
		}
	}
	return &Object{Object: map[string]any{}}
}

// Changed is a member whose ID or volume is another one than before.
func Changed(pod string, before *Object) func(*Object) error {
	return func(o *Object) error {
		old, now := Member(before, pod), Member(o, pod)
		for _, field := range []string{"id", "pvcUID"} {
			if Text(now, field) == "" || Text(now, field) == Text(old, field) {
				return fmt.Errorf("%s of %s is %q, as it was", field, pod, Text(now, field))
			}
		}
		return nil
	}
}
