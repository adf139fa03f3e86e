package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Loads of other shapes that run beside the big one.

const (
	sideNamespace = "side"
	sidePace      = 20 * time.Millisecond // between two writes of a side load
)

// elect updates one Lease again and again, as a leader election does, until done is closed.
func elect(ctx context.Context, w *writer, i *item, done <-chan struct{}) error {
	if err := w.create(ctx, i); err != nil {
		return err
	}
	for pace(ctx, done) {
		if err := w.update(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// apply applies one ConfigMap server-side again and again, each time with the next step, until done is closed, and
// returns what the apiserver answered last. An apply can be tried again without a question.
func apply(ctx context.Context, a *api, done <-chan struct{}) (object, error) {
	path := configMaps.collection(sideNamespace) + "/applied"
	query := map[string][]string{"fieldManager": {"keepstone-test"}}
	var last object
	for step := 1; step == 1 || pace(ctx, done); step++ {
		want := configMaps.build(sideNamespace, "applied", version{step, 1})
		for {
			got, err := a.send(ctx, "PATCH", path, query, "application/apply-patch+yaml", want)
			if err == nil {
				last = got
				break
			}
			if isDefinite(err) || !pause(ctx, retryAfter) {
				return last, fmt.Errorf("apply step %d: %w", step, err)
			}
		}
		if v, err := last.version(); err != nil || v.step != step {
			return last, fmt.Errorf("applied step %d, the answer has %v, %v", step, v, err)
		}
	}
	return last, nil
}

// checkApplied compares the applied object with the last answer, and its field manager with ours.
func checkApplied(ctx context.Context, a *api, want object) error {
	answer, err := a.call(ctx, "GET", configMaps.collection(sideNamespace)+"/applied", nil, "", nil)
	if err != nil {
		return err
	}
	var got struct {
		Metadata struct {
			ResourceVersion string
			ManagedFields   []struct{ Manager, Operation string }
		}
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		return err
	}
	fields := got.Metadata.ManagedFields
	if got.Metadata.ResourceVersion != want.Metadata.ResourceVersion || len(fields) != 1 ||
		fields[0].Manager != "keepstone-test" || fields[0].Operation != "Apply" {
		return fmt.Errorf("the applied object was acknowledged at %s and is %+v", want.Metadata.ResourceVersion, got)
	}
	return nil
}

// pace waits between two writes; false says that the load is over.
func pace(ctx context.Context, done <-chan struct{}) bool {
	select {
	case <-ctx.Done():
		return false
	case <-done:
		return false
	case <-time.After(sidePace):
		return true
	}
}

// createEvent stores a Kubernetes Event. The apiserver ties it to a lease of the store, which ends it.
func createEvent(ctx context.Context, a *api) error {
	event := map[string]any{
		"apiVersion":     "v1",
		"kind":           "Event",
		"metadata":       map[string]string{"name": "short-lived", "namespace": sideNamespace},
		"involvedObject": map[string]string{"kind": "ConfigMap", "name": "applied", "namespace": sideNamespace},
		"reason":         "Test",
		"message":        "ends with its lease",
		"type":           "Normal",
	}
	_, err := a.send(ctx, "POST", "/api/v1/namespaces/"+sideNamespace+"/events", nil, "application/json", event)
	return err
}

// eventGone is nil once the Event has ended.
func eventGone(ctx context.Context, a *api) error {
	_, err := a.call(ctx, "GET", "/api/v1/namespaces/"+sideNamespace+"/events/short-lived", nil, "", nil)
	if apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("the event is still there: %v", err)
}

// prepare makes the namespaces and the custom resource.
func prepare(ctx context.Context, a *api) error {
	for _, name := range append([]string{sideNamespace}, loadNamespaces...) {
		namespace := object{APIVersion: "v1", Kind: "Namespace", Metadata: metadata{Name: name}}
		if _, err := a.send(ctx, "POST", "/api/v1/namespaces", nil, "application/json", namespace); err != nil {
			return err
		}
	}
	text := map[string]any{"type": "object", "additionalProperties": map[string]string{"type": "string"}}
	definition := map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1",
		"kind":       "CustomResourceDefinition",
		"metadata":   map[string]string{"name": "widgets.keepstone.test"},
		"spec": map[string]any{
			"group": "keepstone.test",
			"scope": "Namespaced",
			"names": map[string]string{"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
			"versions": []any{map[string]any{
				"name": "v1", "served": true, "storage": true,
				"schema": map[string]any{"openAPIV3Schema": map[string]any{
					"type": "object", "properties": map[string]any{"data": text},
				}},
			}},
		},
	}
	path := "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	_, err := a.send(ctx, "POST", path, nil, "application/json", definition)
	return err
}

// revisionOf is the resource version of a list of the kind as it is now.
func revisionOf(ctx context.Context, a *api, k *kind) (int64, error) {
	list, err := a.page(ctx, k, map[string][]string{"limit": {"1"}})
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(list.Metadata.ResourceVersion, 10, 64)
}
