package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/yaml"
)

// The operator's API in a real API server: the CRDs are taken, and what they say is enforced.

const (
	operatorGroup     = "/apis/keepstone.io/v1alpha1"
	operatorNamespace = "default"
	crdPath           = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	mergePatch        = "application/merge-patch+json"
)

var (
	clusters   = &kind{"keepstone.io/v1alpha1", "EtcdCluster", "etcdclusters", operatorGroup, ""}
	backups    = &kind{"keepstone.io/v1alpha1", "EtcdBackup", "etcdbackups", operatorGroup, ""}
	operations = &kind{"keepstone.io/v1alpha1", "EtcdOperation", "etcdoperations", operatorGroup, ""}

	operatorKinds = []*kind{clusters, backups, operations}
)

// tree is an object as it is.
type tree = map[string]any

// dryRun has a write checked and answered, and not kept. Unknown fields are errors, as they are to kubectl.
var dryRun = url.Values{"dryRun": {"All"}, "fieldValidation": {"Strict"}}

// startAPI starts an API server for one test, which has four minutes.
func startAPI(t *testing.T) (context.Context, *cluster, *api) {
	t.Helper()
	runtime.LockOSThread() // see process.start
	ctx, cancel := context.WithTimeoutCause(context.Background(), 4*time.Minute, errors.New("the test's time is over"))
	t.Cleanup(cancel)
	c := newCluster(ctx, t)
	a, err := newAPI(c.config)
	if err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "start kube-apiserver", func() error { return c.ready(ctx, a) })
	return ctx, c, a
}

func TestOperatorAPI(t *testing.T) {
	ctx, _, a := startAPI(t)
	installCRDs(ctx, t, a)

	t.Run("rules", func(t *testing.T) { checkRules(ctx, t, a) })
	t.Run("samples", func(t *testing.T) { checkSamples(ctx, t, a) })
	t.Run("defaults", func(t *testing.T) { checkDefaults(ctx, t, a) })
	t.Run("unknown", func(t *testing.T) { checkUnknown(ctx, t, a) })
	t.Run("scale", func(t *testing.T) { checkScale(ctx, t, a) })
	t.Run("status", func(t *testing.T) { checkStatus(ctx, t, a) })
	t.Run("columns", func(t *testing.T) { checkColumns(ctx, t, a) })
	t.Run("names", func(t *testing.T) { checkNames(ctx, t, a) })
}

// installCRDs applies crds/ and waits until its kinds are served.
func installCRDs(ctx context.Context, t *testing.T, a *api) {
	t.Helper()
	files, err := filepath.Glob("../../crds/*.yaml")
	if err != nil || len(files) != len(operatorKinds) {
		t.Fatalf("%d CRDs, %v", len(files), err)
	}
	strict := url.Values{"fieldValidation": {"Strict"}}
	for _, file := range files {
		text := jsonOf(t, file)
		if _, err := a.call(ctx, "POST", crdPath, strict, "application/json", text); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	for _, k := range operatorKinds {
		eventually(ctx, t, "serve "+k.resource, func() error {
			_, err := a.call(ctx, "GET", k.collection(operatorNamespace), nil, "", nil)
			return err
		})
	}
	for _, file := range files {
		checkConditions(ctx, t, a, strings.TrimSuffix(filepath.Base(file), ".yaml"))
	}
}

// checkConditions wants a schema that the API server calls structural, and names that it took.
func checkConditions(ctx context.Context, t *testing.T, a *api, name string) {
	t.Helper()
	var crd struct {
		Status struct {
			Conditions []struct{ Type, Status, Message string }
		}
	}
	fetch(ctx, t, a, crdPath+"/"+name, &crd)
	for _, c := range crd.Status.Conditions {
		good := map[string]string{"NamesAccepted": "True", "Established": "True", "NonStructuralSchema": "False"}
		if want, ok := good[c.Type]; ok && c.Status != want {
			t.Errorf("%s: %s is %s: %s", name, c.Type, c.Status, c.Message)
		}
	}
}

// An example is one entry of operator/api/tests/rules.yaml.
type example struct {
	Rule, Kind, Message string
	Before              tree
	Refused, Accepted   []tree
}

func checkRules(ctx context.Context, t *testing.T, a *api) {
	var file struct {
		Bases map[string]tree
		Rules []example
	}
	readYAML(t, "../../operator/api/tests/rules.yaml", &file)
	if len(file.Rules) < 30 {
		t.Fatalf("only %d rules", len(file.Rules))
	}
	for i, e := range file.Rules {
		t.Run(e.Rule, func(t *testing.T) {
			index := slices.IndexFunc(operatorKinds, func(k *kind) bool { return k.name == e.Kind })
			if index < 0 {
				t.Fatalf("no kind %s", e.Kind)
			}
			tryer := exampleTryer{ctx, t, a, operatorKinds[index], nil, false}
			tryer.base = merge(t, file.Bases[e.Kind], tree{"apiVersion": "keepstone.io/v1alpha1", "kind": e.Kind})
			if e.Before != nil {
				tryer.put(fmt.Sprintf("before-%d", i), e.Before)
			}
			for _, patch := range e.Refused {
				wantRefusal(t, tryer.try(patch), e.Message, patch)
			}
			for _, patch := range e.Accepted {
				if err := tryer.try(patch); err != nil {
					t.Errorf("%v is refused: %v", patch, err)
				}
			}
		})
	}
}

// wantRefusal wants the rule's message, and no other complaint: two rules that say no to one mistake confuse.
func wantRefusal(t *testing.T, err error, message string, patch tree) {
	t.Helper()
	var status apierrors.APIStatus
	if !errors.As(err, &status) || !apierrors.IsInvalid(err) {
		t.Errorf("%v: want a refusal, got %v", patch, err)
		return
	}
	details := status.Status().Details
	if details == nil || len(details.Causes) != 1 || !strings.HasSuffix(details.Causes[0].Message, message) {
		t.Errorf("%v: want the one refusal %q, got %v", patch, message, err)
	}
}

// exampleTryer makes objects of one kind, or changes one that is there.
type exampleTryer struct {
	ctx     context.Context
	t       *testing.T
	a       *api
	kind    *kind
	base    tree
	changes bool
}

// put makes the object that the tries change.
func (e *exampleTryer) put(name string, before tree) {
	e.t.Helper()
	e.base = merge(e.t, e.base, before)
	e.base = merge(e.t, e.base, tree{"metadata": tree{"name": name}})
	create(e.ctx, e.t, e.a, e.kind, e.base)
	e.changes = true
}

func (e *exampleTryer) try(patch tree) error {
	e.t.Helper()
	if e.changes {
		path := e.kind.collection(operatorNamespace) + "/" + nameOf(e.base)
		_, err := e.a.call(e.ctx, "PATCH", path, dryRun, mergePatch, marshal(e.t, patch))
		return err
	}
	body := marshal(e.t, merge(e.t, e.base, patch))
	_, err := e.a.call(e.ctx, "POST", e.kind.collection(operatorNamespace), dryRun, "application/json", body)
	return err
}

// create makes an object for good, its status too.
func create(ctx context.Context, t *testing.T, a *api, k *kind, o tree) {
	t.Helper()
	strict := url.Values{"fieldValidation": {"Strict"}}
	if _, err := a.call(ctx, "POST", k.collection(operatorNamespace), strict, "application/json", marshal(t, o)); err != nil {
		t.Fatal(err)
	}
	if status, ok := o["status"]; ok {
		if err := setStatus(ctx, t, a, k, nameOf(o), status); err != nil {
			t.Fatal(err)
		}
	}
}

func setStatus(ctx context.Context, t *testing.T, a *api, k *kind, name string, status any) error {
	t.Helper()
	path := k.collection(operatorNamespace) + "/" + name + "/status"
	strict := url.Values{"fieldValidation": {"Strict"}}
	_, err := a.call(ctx, "PATCH", path, strict, mergePatch, marshal(t, tree{"status": status}))
	return err
}

// checkSamples gives the API server every sample, etcd-io's among them.
func checkSamples(ctx context.Context, t *testing.T, a *api) {
	files, err := filepath.Glob("../../operator/api/tests/samples/*.yaml")
	if err != nil || len(files) < 7 {
		t.Fatalf("%d samples, %v", len(files), err)
	}
	for _, file := range files {
		for _, document := range documents(t, file) {
			metadata, _ := document["metadata"].(tree)
			metadata["namespace"] = operatorNamespace
			index := slices.IndexFunc(operatorKinds, func(k *kind) bool { return k.name == document["kind"] })
			path := operatorKinds[index].collection(operatorNamespace)
			if _, err := a.call(ctx, "POST", path, dryRun, "application/json", marshal(t, document)); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}

// checkDefaults wants the defaults that the operator's own types have.
func checkDefaults(ctx context.Context, t *testing.T, a *api) {
	sample := documents(t, "../../operator/api/tests/samples/ten-lines.yaml")[0]
	for _, change := range []tree{{}, {"spec": tree{"size": nil}}, {"spec": tree{"tls": tree{}, "storageSpec": tree{}, "recovery": tree{"quorumLoss": tree{}}}}} {
		body := marshal(t, merge(t, sample, change))
		answer, err := a.call(ctx, "POST", clusters.collection(operatorNamespace), dryRun, "application/json", body)
		if err != nil {
			t.Fatal(err)
		}
		var got, want tree
		if err := json.Unmarshal(answer, &got); err != nil {
			t.Fatal(err)
		}
		readYAML(t, "../../operator/api/tests/defaulted.yaml", &want)
		if !reflect.DeepEqual(got["spec"], any(want)) {
			t.Errorf("with %v the spec is\n%v, want\n%v", change, got["spec"], want)
		}
	}
}

// checkUnknown sees that a misspelt field is told to whom kubectl asks for.
func checkUnknown(ctx context.Context, t *testing.T, a *api) {
	body := marshal(t, tree{
		"apiVersion": clusters.apiVersion, "kind": clusters.name, "metadata": tree{"name": "demo"},
		"spec": tree{"version": "v1.4.2", "storage": tree{"size": "1Gi"}},
	})
	_, err := a.call(ctx, "POST", clusters.collection(operatorNamespace), dryRun, "application/json", body)
	if err == nil || !strings.Contains(err.Error(), `unknown field "spec.storage"`) {
		t.Errorf("want spec.storage to be unknown, got %v", err)
	}
}

// checkScale sees that `kubectl scale` works, and keeps to the rules.
func checkScale(ctx context.Context, t *testing.T, a *api) {
	create(ctx, t, a, clusters, tree{
		"apiVersion": clusters.apiVersion, "kind": clusters.name, "metadata": tree{"name": "scaled"},
		"spec":   tree{"version": "v1.4.2"},
		"status": tree{"memberCount": 2, "selector": "keepstone.io/cluster=scaled"},
	})
	path := clusters.collection(operatorNamespace) + "/scaled/scale"
	var scale struct {
		Spec   struct{ Replicas int }
		Status struct {
			Replicas int
			Selector string
		}
	}
	fetch(ctx, t, a, path, &scale)
	if scale.Spec.Replicas != 3 || scale.Status.Replicas != 2 || scale.Status.Selector != "keepstone.io/cluster=scaled" {
		t.Errorf("scale is %+v", scale)
	}
	to := func(replicas int) error {
		_, err := a.call(ctx, "PATCH", path, nil, mergePatch, marshal(t, tree{"spec": tree{"replicas": replicas}}))
		return err
	}
	if err := to(0); err == nil || !strings.Contains(err.Error(), "set hibernate: true") {
		t.Errorf("scale to 0: %v", err)
	}
	if err := to(5); err != nil {
		t.Errorf("scale to 5: %v", err)
	}
}

// checkStatus sees that no rule about the spec refuses what the operator reports, however odd it is: the versions here
// may follow each other in no spec.
func checkStatus(ctx context.Context, t *testing.T, a *api) {
	create(ctx, t, a, clusters, tree{
		"apiVersion": clusters.apiVersion, "kind": clusters.name, "metadata": tree{"name": "reported"},
		"spec": tree{"version": "v1.4.2"},
	})
	for _, version := range []string{"v1.4.2", "v1.9.0", "v1.1.0", "v3.0.0", "", "odd"} {
		if err := setStatus(ctx, t, a, clusters, "reported", tree{"currentVersion": version}); err != nil {
			t.Errorf("status with version %q: %v", version, err)
		}
	}
	// A write of the object leaves the status alone, and one of the status the spec.
	path := clusters.collection(operatorNamespace) + "/reported"
	body := marshal(t, tree{"status": tree{"leader": "nobody"}, "spec": tree{"paused": true}})
	if _, err := a.call(ctx, "PATCH", path, nil, mergePatch, body); err != nil {
		t.Fatal(err)
	}
	body = marshal(t, tree{"status": tree{"readyMembers": 3}, "spec": tree{"paused": false}})
	if _, err := a.call(ctx, "PATCH", path+"/status", nil, mergePatch, body); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Spec   struct{ Paused bool }
		Status struct {
			Leader       string
			ReadyMembers int
		}
	}
	fetch(ctx, t, a, path, &got)
	if !got.Spec.Paused || got.Status.Leader != "" || got.Status.ReadyMembers != 3 {
		t.Errorf("spec and status are mixed up: %+v", got)
	}
	checkApplies(ctx, t, a, path)
}

// checkApplies sees that two writers own a condition each.
func checkApplies(ctx context.Context, t *testing.T, a *api, path string) {
	t.Helper()
	for _, kind := range []string{"Available", "TLSReady"} {
		condition := tree{
			"type": kind, "status": "True", "reason": "AsExpected", "message": "", "observedGeneration": 1,
			"lastTransitionTime": "2026-11-21T10:00:00Z",
		}
		body := marshal(t, tree{
			"apiVersion": clusters.apiVersion, "kind": clusters.name, "status": tree{"conditions": []any{condition}},
		})
		query := url.Values{"fieldManager": {"writer-of-" + strings.ToLower(kind)}}
		if _, err := a.call(ctx, "PATCH", path+"/status", query, "application/apply-patch+yaml", body); err != nil {
			t.Fatal(err)
		}
	}
	var got struct {
		Status struct{ Conditions []struct{ Type string } }
	}
	fetch(ctx, t, a, path, &got)
	if len(got.Status.Conditions) != 2 {
		t.Errorf("conditions are %v", got.Status.Conditions)
	}
	checkRecord(ctx, t, a, path)
}

// checkRecord sees that one operation takes the place of another whole.
func checkRecord(ctx context.Context, t *testing.T, a *api, path string) {
	t.Helper()
	record := func(seq int, kind, part string, content tree) tree {
		return tree{
			"seq": seq, "type": kind, "startedAt": "2026-11-21T10:00:00Z", "deadline": "2026-11-21T10:30:00Z", "generation": 1,
			part: content,
		}
	}
	for i, operation := range []tree{
		record(1, "ScaleUp", "join", tree{"ordinal": 2, "attempt": 1, "applied": 7}),
		record(2, "Roll", "roll", tree{"ordinal": 0, "podUID": "u", "config": "c", "version": "v1.4.2"}),
	} {
		body := marshal(t, tree{
			"apiVersion": clusters.apiVersion, "kind": clusters.name, "status": tree{"operation": operation},
		})
		// Another operator: what the first one wrote is its own, and would stay.
		query := url.Values{"fieldManager": {fmt.Sprintf("writer-%d", i)}, "force": {"true"}, "fieldValidation": {"Strict"}}
		if _, err := a.call(ctx, "PATCH", path+"/status", query, "application/apply-patch+yaml", body); err != nil {
			t.Fatal(err)
		}
	}
	var got struct {
		Status struct{ Operation tree }
	}
	fetch(ctx, t, a, path, &got)
	if o := got.Status.Operation; o["join"] != nil || o["roll"] == nil {
		t.Errorf("the record is %v", o)
	}
}

// checkColumns reads the table that `kubectl get` prints.
func checkColumns(ctx context.Context, t *testing.T, a *api) {
	create(ctx, t, a, clusters, tree{
		"apiVersion": clusters.apiVersion, "kind": clusters.name, "metadata": tree{"name": "shown"},
		"spec": tree{"version": "v1.4.2"},
		"status": tree{
			"phase": "Running", "readyMembers": 3, "leader": "shown-1", "currentVersion": "v1.4.2", "clusterID": "cdf8",
			"lastBackup": tree{"name": "b", "revision": 7, "time": "2026-11-21T10:00:00Z"},
			"conditions": []any{tree{
				"type": "Available", "status": "True", "reason": "QuorumHealthy", "message": "",
				"lastTransitionTime": "2026-11-21T10:00:00Z",
			}},
		},
	})
	var table struct {
		ColumnDefinitions []struct {
			Name     string
			Priority int
		}
		Rows []struct{ Cells []any }
	}
	request := a.client.Get().AbsPath(clusters.collection(operatorNamespace) + "/shown")
	answer, err := request.SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").DoRaw(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(answer, &table); err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, column := range table.ColumnDefinitions {
		if column.Priority == 0 && column.Name != "Age" && column.Name != "Backup" {
			got = append(got, fmt.Sprintf("%s=%v", column.Name, table.Rows[0].Cells[i]))
		}
	}
	want := []string{"Name=shown", "Size=3", "Ready=3", "Leader=shown-1", "Version=v1.4.2", "Available=True", "Phase=Running"}
	if !slices.Equal(got, want) {
		t.Errorf("columns are %v, want %v", got, want)
	}
}

// checkNames reads what kubectl knows the kinds by.
func checkNames(ctx context.Context, t *testing.T, a *api) {
	var found struct {
		Resources []struct {
			Name       string
			ShortNames []string
			Categories []string
		}
	}
	fetch(ctx, t, a, operatorGroup, &found)
	short := map[string][]string{}
	for _, r := range found.Resources {
		short[r.Name] = append(slices.Clone(r.ShortNames), r.Categories...)
	}
	for name, want := range map[string]string{"etcdclusters": "etc", "etcdbackups": "etb", "etcdoperations": "eto"} {
		if !slices.Equal(short[name], []string{want, "keepstone"}) {
			t.Errorf("%s is known as %v", name, short[name])
		}
	}
	names := slices.Sorted(maps.Keys(short))
	want := []string{
		"etcdbackups", "etcdbackups/status", "etcdclusters", "etcdclusters/scale", "etcdclusters/status",
		"etcdoperations", "etcdoperations/status",
	}
	if !slices.Equal(names, want) {
		t.Errorf("resources are %v, want %v", names, want)
	}
}

func fetch(ctx context.Context, t *testing.T, a *api, path string, into any) {
	t.Helper()
	answer, err := a.call(ctx, "GET", path, nil, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(answer, into); err != nil {
		t.Fatal(err)
	}
}

func nameOf(o tree) string {
	metadata, _ := o["metadata"].(tree)
	name, _ := metadata["name"].(string)
	return name
}

// merge is base with a merge patch on it.
func merge(t *testing.T, base, patch tree) tree {
	t.Helper()
	merged, err := jsonpatch.MergePatch(marshal(t, base), marshal(t, patch))
	if err != nil {
		t.Fatal(err)
	}
	var out tree
	if err := json.Unmarshal(merged, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func marshal(t *testing.T, o any) []byte {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func readYAML(t *testing.T, path string, into any) {
	t.Helper()
	if err := json.Unmarshal(jsonOf(t, path), into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func jsonOf(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return out
}

// documents reads a file of several.
func documents(t *testing.T, path string) []tree {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []tree
	for _, part := range strings.Split(string(text), "\n---\n") {
		var one tree
		if err := yaml.Unmarshal([]byte(part), &one); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, one)
	}
	return all
}
