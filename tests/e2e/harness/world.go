// Package harness is what scenarios are written with: a namespace, the operator in the cluster, objects that are applied and
// waited for, clients under whose eyes everything happens, and a report when it does not.
package harness

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"keepstone.io/e2e/driver"
)

// Version is that of all images but those of a scenario that changes it.
const (
	Version     = "v0.1.0"
	NextVersion = "v0.2.0"
)

// Patience bounds a wait. It is there to end a scenario that hangs, not to measure anything.
const Patience = 5 * time.Minute

// A World is what a scenario acts in.
type World struct {
	T         *testing.T
	Ctx       context.Context
	Driver    driver.Driver
	Config    *rest.Config
	Kube      kubernetes.Interface
	Dynamic   dynamic.Interface
	Namespace string
	Helm      *Helm

	began time.Time
}

// New makes a world around the cluster that KUBECONFIG leads to, with the operator in it and an empty namespace in which
// only restricted pods may run. When the scenario fails, what there is is shown; in any case it is removed.
func New(t *testing.T) *World {
	t.Helper()
	w := Bare(t)
	w.loadImages()
	w.InstallOperator()
	return w
}

// Bare is a world without the operator.
func Bare(t *testing.T) *World {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	w := &World{T: t, Ctx: ctx, began: time.Now()}
	var err error
	if w.Driver, err = driver.FromEnvironment(); err != nil {
		t.Fatal(err)
	}
	w.Config, err = clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	w.must(err)
	w.Config.QPS = -1
	w.Kube, err = kubernetes.NewForConfig(w.Config)
	w.must(err)
	w.Dynamic, err = dynamic.NewForConfig(w.Config)
	w.must(err)
	w.Helm = &Helm{w: w}
	w.Namespace = namespaceOf(t.Name())
	w.wipe()
	w.MakeNamespace(w.Namespace)
	t.Cleanup(func() {
		if t.Failed() {
			w.Report()
		}
		w.wipe()
	})
	return w
}

// namespaceOf is the scenario's name with hyphens.
func namespaceOf(name string) string {
	name = strings.TrimPrefix(name, "Test")
	return "e2e" + strings.ToLower(regexp.MustCompile(`[A-Z]`).ReplaceAllString(name, "-$0"))
}

func (w *World) must(err error) {
	w.T.Helper()
	if err != nil {
		w.T.Fatal(err)
	}
}

// Say is a line with the time since the scenario began.
func (w *World) Say(format string, args ...any) {
	w.T.Helper()
	w.T.Logf("%6.1f s  %s", time.Since(w.began).Seconds(), fmt.Sprintf(format, args...))
}

// MakeNamespace lets only pods run that keep all the rules there are.
func (w *World) MakeNamespace(name string) {
	w.T.Helper()
	namespace := &core.Namespace{ObjectMeta: meta.ObjectMeta{
		Name: name, Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
	}}
	_, err := w.Kube.CoreV1().Namespaces().Create(w.Ctx, namespace, meta.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		w.T.Fatal(err)
	}
}

// wipe removes the namespace and waits until it is gone.
func (w *World) wipe() {
	w.T.Helper()
	ctx := context.Background()
	w.Eventually("the namespace is removed", func() error {
		err := w.Kube.CoreV1().Namespaces().Delete(ctx, w.Namespace, meta.DeleteOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err == nil || apierrors.IsConflict(err) {
			err = fmt.Errorf("%s is still there", w.Namespace)
		}
		// Nobody waits for members that end in good order.
		now := int64(0)
		_ = w.Kube.CoreV1().Pods(w.Namespace).DeleteCollection(ctx, meta.DeleteOptions{GracePeriodSeconds: &now}, meta.ListOptions{})
		return err
	})
}

// loadImages gives the cluster every archive in E2E_IMAGES that it has not been given yet.
func (w *World) loadImages() {
	w.T.Helper()
	archives, err := filepath.Glob(filepath.Join(os.Getenv("E2E_IMAGES"), "*.tar"))
	w.must(err)
	maps := w.Kube.CoreV1().ConfigMaps("kube-public")
	const name = "keepstone-e2e-images"
	loaded, err := maps.Get(w.Ctx, name, meta.GetOptions{})
	if apierrors.IsNotFound(err) {
		loaded, err = maps.Create(w.Ctx, &core.ConfigMap{ObjectMeta: meta.ObjectMeta{Name: name}}, meta.CreateOptions{})
	}
	w.must(err)
	if loaded.Data == nil {
		loaded.Data = map[string]string{}
	}
	for _, archive := range archives {
		digest := w.digest(archive)
		if loaded.Data[filepath.Base(archive)] == digest {
			continue
		}
		w.must(w.Driver.LoadImage(w.Ctx, archive))
		loaded.Data[filepath.Base(archive)] = digest
		w.Say("loaded %s", filepath.Base(archive))
	}
	_, err = maps.Update(w.Ctx, loaded, meta.UpdateOptions{})
	w.must(err)
}

func (w *World) digest(path string) string {
	w.T.Helper()
	file, err := os.Open(path)
	w.must(err)
	defer file.Close()
	sum := sha256.New()
	_, err = io.Copy(sum, file)
	w.must(err)
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// Eventually polls until there is no error, or patience ends. Use it for what can't be watched.
func (w *World) Eventually(what string, try func() error) {
	w.T.Helper()
	for deadline := time.Now().Add(Patience); ; time.Sleep(200 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			w.T.Fatalf("not within %v: %s: %v", Patience, what, err)
		}
	}
}

// Nodes are the names of those that pods may run on, in order.
func (w *World) Nodes() []string {
	w.T.Helper()
	all, err := w.Kube.CoreV1().Nodes().List(w.Ctx, meta.ListOptions{})
	w.must(err)
	var names []string
	for _, node := range all.Items {
		if _, control := node.Labels["node-role.kubernetes.io/control-plane"]; !control {
			names = append(names, node.Name)
		}
	}
	return names
}
