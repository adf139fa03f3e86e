package scenarios

import (
	"fmt"
	"testing"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"keepstone.io/e2e/harness"
)

// TestScale goes from one member to three, to five and back to three, by the spec and by what `kubectl scale` uses.
func TestScale(t *testing.T) {
	w := harness.New(t)
	client := w.Found("main", 1, harness.Crowded("main"), harness.Quick)
	w.Patch(harness.Clusters, "main", `{"spec":{"size":3}}`)
	w.AwaitSettled("main", 3)
	_, err := w.Dynamic.Resource(harness.Clusters).Namespace(w.Namespace).Patch(w.Ctx, "main", types.MergePatchType,
		[]byte(`{"spec":{"replicas":5}}`), meta.PatchOptions{}, "scale")
	if err != nil {
		t.Fatal(err)
	}
	w.AwaitSettled("main", 5)
	w.Patch(harness.Clusters, "main", `{"spec":{"size":3}}`)
	w.AwaitSettled("main", 3)
	// The volumes of those that left go, as the storage's retainPolicy has it by default.
	w.Eventually("the volumes of members that left are gone", func() error {
		claims, err := w.Kube.CoreV1().PersistentVolumeClaims(w.Namespace).List(w.Ctx, meta.ListOptions{})
		if err == nil && len(claims.Items) != 3 {
			err = fmt.Errorf("%d claims", len(claims.Items))
		}
		return err
	})
	client.Stop()
}
