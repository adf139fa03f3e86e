package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// An Object is one of any kind.
type Object = unstructured.Unstructured

// The operator's kinds.
var (
	Clusters   = schema.GroupVersionResource{Group: "keepstone.io", Version: "v1alpha1", Resource: "etcdclusters"}
	Backups    = schema.GroupVersionResource{Group: "keepstone.io", Version: "v1alpha1", Resource: "etcdbackups"}
	Operations = schema.GroupVersionResource{Group: "keepstone.io", Version: "v1alpha1", Resource: "etcdoperations"}
)

// Apply applies documents, in the scenario's namespace where they name none.
func (w *World) Apply(format string, args ...any) {
	w.T.Helper()
	w.must(w.TryApply(fmt.Sprintf(format, args...)))
}

// TryApply returns what the API server says against it.
func (w *World) TryApply(documents string) error {
	groups, err := restmapper.GetAPIGroupResources(discovery.NewDiscoveryClientForConfigOrDie(w.Config))
	if err != nil {
		return err
	}
	mapper := restmapper.NewDiscoveryRESTMapper(groups)
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(documents), 4096)
	for {
		o := &Object{}
		if err := decoder.Decode(o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if o.Object == nil {
			continue
		}
		kind := o.GroupVersionKind()
		mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
		if err != nil {
			return err
		}
		var into dynamic.ResourceInterface = w.Dynamic.Resource(mapping.Resource)
		if mapping.Scope.Name() == "namespace" {
			if o.GetNamespace() == "" {
				o.SetNamespace(w.Namespace)
			}
			into = w.Dynamic.Resource(mapping.Resource).Namespace(o.GetNamespace())
		}
		if _, err := into.Apply(w.Ctx, o.GetName(), o, meta.ApplyOptions{FieldManager: "e2e", Force: true}); err != nil {
			return fmt.Errorf("%s %s: %w", kind.Kind, o.GetName(), err)
		}
	}
}

// Patch merges JSON into an object of the scenario's namespace.
func (w *World) Patch(of schema.GroupVersionResource, name, format string, args ...any) {
	w.T.Helper()
	_, err := w.Dynamic.Resource(of).Namespace(w.Namespace).Patch(w.Ctx, name, types.MergePatchType, []byte(fmt.Sprintf(format, args...)), meta.PatchOptions{})
	w.must(err)
}

// Get is an object of the scenario's namespace.
func (w *World) Get(of schema.GroupVersionResource, name string) *Object {
	w.T.Helper()
	o, err := w.Dynamic.Resource(of).Namespace(w.Namespace).Get(w.Ctx, name, meta.GetOptions{})
	w.must(err)
	return o
}

// List are all objects of a kind in the scenario's namespace.
func (w *World) List(of schema.GroupVersionResource) []Object {
	w.T.Helper()
	all, err := w.Dynamic.Resource(of).Namespace(w.Namespace).List(w.Ctx, meta.ListOptions{})
	w.must(err)
	return all.Items
}

// Await watches an object until a condition holds for it. The condition says what is missing. An object that is not there
// does not hold, unless absent is what is waited for.
func (w *World) Await(of schema.GroupVersionResource, name, what string, condition func(*Object) error) *Object {
	w.T.Helper()
	var last error = fmt.Errorf("there is no %s", name)
	o, err := w.await(of, w.Namespace, name, func(event watch.Event) (bool, error) {
		o, ok := event.Object.(*Object)
		if !ok || event.Type == watch.Deleted {
			last = fmt.Errorf("%s is gone", name)
			return false, nil
		}
		last = condition(o)
		return last == nil, nil
	})
	if err != nil {
		w.T.Fatalf("%s %s: not within %v: %s: %v", of.Resource, name, Patience, what, last)
	}
	return o
}

// AwaitGone watches until an object is gone.
func (w *World) AwaitGone(of schema.GroupVersionResource, name string) {
	w.T.Helper()
	w.Eventually(of.Resource+" "+name+" is gone", func() error {
		_, err := w.Dynamic.Resource(of).Namespace(w.Namespace).Get(w.Ctx, name, meta.GetOptions{})
		if err == nil {
			return errors.New("it is there")
		}
		if isNotFound(err) {
			return nil
		}
		return err
	})
}

// await lists and watches, and comes back after whatever ends the watch, an API server that is started anew among it.
func (w *World) await(of schema.GroupVersionResource, namespace, name string, done func(watch.Event) (bool, error)) (*Object, error) {
	one := fields.OneTermEqualSelector("metadata.name", name).String()
	objects := w.Dynamic.Resource(of).Namespace(namespace)
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options meta.ListOptions) (runtime.Object, error) {
			options.FieldSelector = one
			return objects.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options meta.ListOptions) (watch.Interface, error) {
			options.FieldSelector = one
			return objects.Watch(ctx, options)
		},
	}
	ctx, cancel := context.WithTimeout(w.Ctx, Patience)
	defer cancel()
	event, err := watchtools.UntilWithSync(ctx, source, &Object{}, nil, done)
	if err != nil {
		return nil, err
	}
	o, _ := event.Object.(*Object)
	return o, nil
}

// Text is a string in an object, empty where there is none.
func Text(o *Object, path ...string) string {
	text, _, _ := unstructured.NestedString(o.Object, path...)
	return text
}

// Number is an integer in an object, 0 where there is none.
func Number(o *Object, path ...string) int64 {
	number, _, _ := unstructured.NestedInt64(o.Object, path...)
	return number
}

// Items are the objects of a list in an object.
func Items(o *Object, path ...string) []*Object {
	list, _, _ := unstructured.NestedSlice(o.Object, path...)
	var all []*Object
	for _, item := range list {
		if fields, ok := item.(map[string]any); ok {
			all = append(all, &Object{Object: fields})
		}
	}
	return all
}
