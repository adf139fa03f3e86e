package harness

import (
	"context"
	"fmt"
	"strings"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

const reportLines = 60

// Report shows what there is: clusters, pods, events, the operator's words and those of members that are not well.
func (w *World) Report() {
	ctx := context.Background()
	var out strings.Builder
	for _, resource := range []string{"etcdclusters", "etcdoperations", "etcdbackups"} {
		list, err := w.Dynamic.Resource(Clusters.GroupVersion().WithResource(resource)).Namespace(w.Namespace).List(ctx, meta.ListOptions{})
		if err != nil {
			fmt.Fprintln(&out, resource, err)
			continue
		}
		for _, o := range list.Items {
			o.SetManagedFields(nil)
			text, _ := yaml.Marshal(o.Object)
			fmt.Fprintf(&out, "--- %s %s\n%s", resource, o.GetName(), text)
		}
	}
	for _, namespace := range []string{w.Namespace, OperatorNamespace} {
		w.reportPods(ctx, &out, namespace)
	}
	w.T.Log("the cluster as it is:\n" + out.String())
}

func (w *World) reportPods(ctx context.Context, out *strings.Builder, namespace string) {
	pods, err := w.Kube.CoreV1().Pods(namespace).List(ctx, meta.ListOptions{})
	if err != nil {
		fmt.Fprintln(out, err)
		return
	}
	for _, pod := range pods.Items {
		fmt.Fprintf(out, "--- pod %s/%s on %s: %s, ready %v\n", namespace, pod.Name, pod.Spec.NodeName, pod.Status.Phase, Ready(&pod))
		for _, c := range pod.Status.ContainerStatuses {
			fmt.Fprintf(out, "    %s: restarts %d, state %s, last %s\n", c.Name, c.RestartCount, state(c.State), state(c.LastTerminationState))
		}
		for _, previous := range []bool{true, false} {
			lines := int64(reportLines)
			text, err := w.Kube.CoreV1().Pods(namespace).GetLogs(pod.Name, &core.PodLogOptions{TailLines: &lines, Previous: previous}).DoRaw(ctx)
			if err == nil {
				fmt.Fprintf(out, "    log (previous: %v):\n%s\n", previous, text)
			}
		}
	}
	events, err := w.Kube.CoreV1().Events(namespace).List(ctx, meta.ListOptions{})
	if err != nil {
		fmt.Fprintln(out, err)
		return
	}
	for _, e := range events.Items[max(0, len(events.Items)-reportLines):] {
		fmt.Fprintf(out, "event %s %s/%s %s: %s (%d)\n", e.LastTimestamp.Format("15:04:05"), e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Reason, e.Message, e.Count)
	}
}

func state(s core.ContainerState) string {
	switch {
	case s.Running != nil:
		return "running"
	case s.Terminated != nil:
		return fmt.Sprintf("ended with %d (%s) %s", s.Terminated.ExitCode, s.Terminated.Reason, s.Terminated.Message)
	case s.Waiting != nil:
		return fmt.Sprintf("waits (%s) %s", s.Waiting.Reason, s.Waiting.Message)
	default:
		return "unknown"
	}
}

func (w *World) deletePod(name string) {
	w.T.Helper()
	now := int64(0)
	err := w.Kube.CoreV1().Pods(w.Namespace).Delete(w.Ctx, name, meta.DeleteOptions{GracePeriodSeconds: &now})
	if err != nil && !isNotFound(err) {
		w.T.Fatal(err)
	}
}
