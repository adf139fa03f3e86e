package harness

import (
	"errors"
	"fmt"
	"strings"

	core "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// OperatorPods are those that are not on their way out.
func (w *World) OperatorPods() []core.Pod {
	w.T.Helper()
	list, err := w.Kube.CoreV1().Pods(OperatorNamespace).List(w.Ctx, meta.ListOptions{LabelSelector: "app.kubernetes.io/name=keepstone-operator"})
	w.must(err)
	var all []core.Pod
	for _, pod := range list.Items {
		if pod.DeletionTimestamp == nil {
			all = append(all, pod)
		}
	}
	return all
}

// KillOperator kills all of them at once, without a word. Others are started in their place.
func (w *World) KillOperator() {
	w.T.Helper()
	now := int64(0)
	for _, pod := range w.OperatorPods() {
		err := w.Kube.CoreV1().Pods(OperatorNamespace).Delete(w.Ctx, pod.Name, meta.DeleteOptions{GracePeriodSeconds: &now})
		if err != nil && !isNotFound(err) {
			w.T.Fatal(err)
		}
	}
	w.Say("the operator is killed")
}

// ScaleOperator starts so many of them, or ends them; none is left behind.
func (w *World) ScaleOperator(replicas int) {
	w.T.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)
	_, err := w.Kube.AppsV1().Deployments(OperatorNamespace).Patch(w.Ctx, OperatorName, types.MergePatchType, patch, meta.PatchOptions{})
	w.must(err)
	if replicas == 0 {
		w.KillOperator()
	}
	w.Eventually("the operator is scaled", func() error {
		ready := 0
		for _, pod := range w.OperatorPods() {
			if Ready(&pod) {
				ready++
			}
		}
		if pods := len(w.OperatorPods()); pods != replicas || ready != replicas {
			return fmt.Errorf("%d pods, %d ready, want %d", pods, ready, replicas)
		}
		return nil
	})
	w.Say("%d operators run", replicas)
}

// OperatorLeader is the pod that holds the lease.
func (w *World) OperatorLeader() string {
	w.T.Helper()
	lease, err := w.Kube.CoordinationV1().Leases(OperatorNamespace).Get(w.Ctx, OperatorName, meta.GetOptions{})
	w.must(err)
	if lease.Spec.HolderIdentity == nil {
		return ""
	}
	// Behind the name is what tells two lives of a pod apart.
	pod, _, _ := strings.Cut(*lease.Spec.HolderIdentity, "_")
	return pod
}

// Cordon keeps new pods away from nodes, or lets them come again. What a scenario leaves is taken back at its end.
func (w *World) Cordon(shut bool, nodes ...string) {
	w.T.Helper()
	for _, node := range nodes {
		patch := fmt.Appendf(nil, `{"spec":{"unschedulable":%v}}`, shut)
		_, err := w.Kube.CoreV1().Nodes().Patch(w.Ctx, node, types.StrategicMergePatchType, patch, meta.PatchOptions{})
		w.must(err)
	}
	if shut {
		w.T.Cleanup(func() {
			for _, node := range nodes {
				_, _ = w.Kube.CoreV1().Nodes().Patch(w.Ctx, node, types.StrategicMergePatchType, []byte(`{"spec":{"unschedulable":false}}`), meta.PatchOptions{})
			}
		})
	}
}

// Evict is what a drain asks for each pod. It may be refused.
func (w *World) Evict(pod string) error {
	return w.Kube.PolicyV1().Evictions(w.Namespace).Evict(w.Ctx, &policy.Eviction{ObjectMeta: meta.ObjectMeta{Name: pod, Namespace: w.Namespace}})
}

// AwaitNode waits until a node is ready, or is known not to be.
func (w *World) AwaitNode(name string, ready bool) {
	w.T.Helper()
	w.Eventually(fmt.Sprintf("node %s is ready: %v", name, ready), func() error {
		node, err := w.Kube.CoreV1().Nodes().Get(w.Ctx, name, meta.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range node.Status.Conditions {
			if c.Type == core.NodeReady && (c.Status == core.ConditionTrue) == ready {
				return nil
			}
		}
		return fmt.Errorf("it is not so yet")
	})
}

// HoldScaling has the API server refuse that a cluster's StatefulSet gets more pods, or fewer, until the returned function is
// called. So what comes before such a step is all that is done, and what happens then can be tried.
func (w *World) HoldScaling(cluster string, up bool) (allow func()) {
	w.T.Helper()
	const name = "e2e-hold-scaling"
	expression, probe := "object.spec.replicas <= oldObject.spec.replicas", 100
	if !up {
		expression, probe = "object.spec.replicas >= oldObject.spec.replicas", 0
	}
	w.Apply(`apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: %[1]s}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: [UPDATE], resources: [statefulsets, statefulsets/scale]}]
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %[2]s}}
  validations: [{expression: %[3]q, message: held up by the test}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: %[1]s}
spec: {policyName: %[1]s, validationActions: [Deny]}
`, name, w.Namespace, expression)
	allow = func() {
		policies := w.Kube.AdmissionregistrationV1()
		_ = policies.ValidatingAdmissionPolicyBindings().Delete(w.Ctx, name, meta.DeleteOptions{})
		_ = policies.ValidatingAdmissionPolicies().Delete(w.Ctx, name, meta.DeleteOptions{})
	}
	w.T.Cleanup(allow)
	// It takes the API server a moment to see it.
	w.Eventually("scaling is refused", func() error {
		patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, probe)
		_, err := w.Kube.AppsV1().StatefulSets(w.Namespace).Patch(w.Ctx, cluster, types.MergePatchType, patch, meta.PatchOptions{DryRun: []string{meta.DryRunAll}})
		if err == nil {
			return errors.New("it is not")
		}
		if !strings.Contains(err.Error(), "held up by the test") {
			return err
		}
		return nil
	})
	return allow
}

// KillOperatorPod kills one of them.
func (w *World) KillOperatorPod(name string) {
	w.T.Helper()
	now := int64(0)
	err := w.Kube.CoreV1().Pods(OperatorNamespace).Delete(w.Ctx, name, meta.DeleteOptions{GracePeriodSeconds: &now})
	if err != nil && !isNotFound(err) {
		w.T.Fatal(err)
	}
}
