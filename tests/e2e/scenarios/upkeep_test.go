package scenarios

import (
	"context"
	"fmt"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"keepstone.io/e2e/harness"
)

// TestShortCertificates gives certificates two minutes and waits until each was renewed twice: no member is restarted, no
// client is cut off, and who comes new is let in.
func TestShortCertificates(t *testing.T) {
	w := harness.New(t)
	// Renewed long before their end: a kubelet brings a changed Secret to a pod within a minute or so.
	client := w.Found("main", 3, "tls: {providerCfg: {autoCfg: {validityDuration: 2m, renewBefore: 85s}}}")
	before := w.Pods("main")
	ends := func() time.Time {
		text := harness.Text(w.Get(harness.Clusters, "main"), "status", "certificates", "serverNotAfter")
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatalf("serverNotAfter %q: %v", text, err)
		}
		return at
	}
	first := ends()
	w.Eventually("the certificates were renewed twice, and the first ones are over", func() error {
		if end := ends(); end.Before(first.Add(4*time.Minute)) || time.Now().Before(first.Add(2*time.Minute)) {
			return fmt.Errorf("they end at %v, the first ended at %v", end, first)
		}
		return nil
	})
	w.Await(harness.Clusters, "main", "with valid certificates", harness.Has("TLSReady", "True"))
	w.Say("renewed, %v after the first ones were over", time.Since(first).Round(time.Second))
	client.AwaitPuts(50)
	client.Stop()
	for i, pod := range w.Pods("main") {
		if pod.UID != before[i].UID || pod.Status.ContainerStatuses[0].RestartCount != 0 {
			t.Errorf("%s was restarted", pod.Name)
		}
	}
	// Only with what is valid now.
	again := w.StartClient("main")
	again.AwaitPuts(50)
	again.Stop()
	w.AwaitSettled("main", 3)
}

// TestStorageGrowth asks for larger volumes. Nothing here can make a volume larger, so the test says it was done.
func TestStorageGrowth(t *testing.T) {
	w := harness.New(t)
	classes := w.Kube.StorageV1().StorageClasses()
	if _, err := classes.Patch(w.Ctx, "standard", types.MergePatchType, []byte(`{"allowVolumeExpansion":true}`), meta.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	// The quota is said: one that follows the volume's size would have the members started anew.
	client := w.Found("main", 3, "storageSpec: {volumeSizeRequest: 1Gi}", "quotaBackendBytes: 256Mi")
	before := w.Pods("main")
	ctx, cancel := context.WithCancel(w.Ctx)
	defer cancel()
	go resize(ctx, w)
	want := resource.MustParse("2Gi")
	w.Patch(harness.Clusters, "main", `{"spec":{"storageSpec":{"volumeSizeRequest":%q}}}`, want.String())
	w.Eventually("all volumes have grown", func() error {
		claims, err := w.Kube.CoreV1().PersistentVolumeClaims(w.Namespace).List(w.Ctx, meta.ListOptions{})
		if err != nil {
			return err
		}
		for _, claim := range claims.Items {
			if size := claim.Status.Capacity[core.ResourceStorage]; size.Cmp(want) != 0 {
				return fmt.Errorf("%s has %v", claim.Name, size.String())
			}
		}
		return nil
	})
	w.Eventually("the StatefulSet asks for as much", func() error {
		set, err := w.Kube.AppsV1().StatefulSets(w.Namespace).Get(w.Ctx, "main", meta.GetOptions{})
		if err != nil {
			return err
		}
		if size := set.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests[core.ResourceStorage]; size.Cmp(want) != 0 {
			return fmt.Errorf("it asks for %v", size.String())
		}
		return nil
	})
	w.AwaitSettled("main", 3)
	for i, pod := range w.Pods("main") {
		if pod.UID != before[i].UID {
			t.Errorf("%s is another one", pod.Name)
		}
	}
	client.Stop()
}

// resize is the part of Kubernetes that makes volumes larger, as far as claims show it.
func resize(ctx context.Context, w *harness.World) {
	claims := w.Kube.CoreV1().PersistentVolumeClaims(w.Namespace)
	for ctx.Err() == nil {
		all, err := claims.List(ctx, meta.ListOptions{})
		if err == nil {
			for _, claim := range all.Items {
				want, have := claim.Spec.Resources.Requests[core.ResourceStorage], claim.Status.Capacity[core.ResourceStorage]
				if claim.Status.Phase == core.ClaimBound && want.Cmp(have) > 0 {
					patch := fmt.Appendf(nil, `{"status":{"capacity":{"storage":%q}}}`, want.String())
					_, _ = claims.Patch(ctx, claim.Name, types.MergePatchType, patch, meta.PatchOptions{}, "status")
				}
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// TestMaintenance compacts and defragments every minute.
func TestMaintenance(t *testing.T) {
	w := harness.New(t)
	client := w.Found("main", 3, `maintenance:
    compact: {schedule: "* * * * *", keep: {revisions: 100}}
    defragment: {schedule: "* * * * *", rule: {freeSpaceAbove: "1", minReclaim: "1"}}`)
	done := func(verb string) func() error {
		return func() error {
			for _, o := range w.List(harness.Operations) {
				if harness.Text(&o, "status", "verb") == verb && harness.Text(&o, "status", "phase") == "Succeeded" {
					w.Say("%s: %s", o.GetName(), harness.Text(&o, "status", "message"))
					return nil
				}
			}
			return fmt.Errorf("no %s has succeeded among %d operations", verb, len(w.List(harness.Operations)))
		}
	}
	w.Eventually("a compaction by schedule", done("compact"))
	w.Eventually("a defragmentation by schedule", done("defragment"))
	client.AwaitPuts(50)
	client.Stop()
	w.AwaitSettled("main", 3)
}
