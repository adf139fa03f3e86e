package kube

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const batch = "/apis/batch/v1/namespaces/default/"

// Founding from a backup, and the end of a backup, as far as an API server goes: nobody runs pods here, so the test says
// what became of a Job. Objects, rights and the order of things are the real ones.
func TestBackups(t *testing.T) {
	ctx, c, a := startAPI(t)
	h := newHelm(ctx, t, c.config)
	namespace(ctx, t, a, operatorHome)
	h.run(t, "install", "keepstone-operator", operatorChart, "--namespace", operatorHome)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	writeKubeconfig(t, kubeconfig, c.config, operatorUser)
	create(ctx, t, a, backups, tree{
		"apiVersion": "keepstone.io/v1alpha1", "kind": "EtcdBackup", "metadata": tree{"name": "nightly"},
		"spec": tree{
			"clusterRef": tree{"name": "lost"}, "deletionPolicy": "Delete", "store": tree{"s3": tree{
				"bucket": "backups", "prefix": "prod/lost", "credentialsSecretRef": tree{"name": "keys"},
				"caSecretRef": tree{"name": "ca"},
			}},
		},
		"status": tree{"observedGeneration": 1, "phase": "Completed", "artifact": tree{
			"uri": "s3://backups/prod/lost/nightly.db", "sizeBytes": 7, "sha256": strings.Repeat("ab", 32), "revision": 9,
			"clusterID": "1", "memberID": "2", "serverVersion": "3.6.0",
		}},
	})
	o := startOperator(t, "operator", kubeconfig)
	create(ctx, t, a, clusters, tree{
		"apiVersion": "keepstone.io/v1alpha1", "kind": "EtcdCluster", "metadata": tree{"name": "main"},
		"spec": tree{"version": "v0.1.0", "bootstrap": tree{"restore": tree{
			"from": tree{"backupRef": tree{"name": "nightly"}},
		}}},
	})
	t.Run("founding", func(t *testing.T) { checkFounding(ctx, t, a) })
	t.Run("end of a backup", func(t *testing.T) { checkEndOfBackup(ctx, t, a) })
	log, err := os.ReadFile(o.log)
	if err != nil || strings.Contains(strings.ToLower(string(log)), "forbidden") {
		t.Errorf("it did what it has no right to, or left no log: %v", err)
	}
}

// checkFounding wants the fence before the pod, the backup before the permit.
func checkFounding(ctx context.Context, t *testing.T, a *api) {
	set := there(ctx, t, a, apps+"statefulsets/main", nil)
	fence, err := a.object(ctx, core+"configmaps/main-fence")
	if err != nil || fence == nil {
		t.Fatalf("there is a StatefulSet and no fence: %v", err)
	}
	if got := at(fence, "data", "fence"); got != "main-0\n" {
		t.Errorf("the fence names %q", got)
	}
	pod := makeSeed(ctx, t, a, set)
	job := onlyJob(ctx, t, a, "main-fill-")
	spec := at(job, "spec", "template", "spec").(tree)
	if spec["automountServiceAccountToken"] != false {
		t.Error("an agent has a token")
	}
	if text := fmt.Sprint(spec); !strings.Contains(text, strings.Repeat("ab", 32)) || !strings.Contains(text, "data-main-0") {
		t.Errorf("it does not say what goes where: %s", text)
	}
	if permit, err := a.object(ctx, core+"configmaps/main-permit"); err != nil || permit != nil {
		t.Fatalf("a permit before the backup is there: %v %v", permit, err)
	}
	finishJob(ctx, t, a, nameOf(job))
	there(ctx, t, a, core+"configmaps/main-permit", func(o tree) bool {
		permit, _ := at(o, "data", "permit").(string)
		return strings.Contains(permit, `"force-new-cluster-id"`) && strings.Contains(permit, pod)
	})
	there(ctx, t, a, core+"configmaps/main-fence", nil)
}

// checkEndOfBackup wants the file removed before the record is gone, though there never was such a cluster.
func checkEndOfBackup(ctx context.Context, t *testing.T, a *api) {
	record := backups.collection("default") + "/nightly"
	// It was made complete by hand, so that nothing held it so far.
	change(ctx, t, a, record, tree{"metadata": tree{"finalizers": []string{"keepstone.io/backup-file"}}})
	if _, err := a.call(ctx, "DELETE", record, nil, "", nil); err != nil {
		t.Fatal(err)
	}
	job := onlyJob(ctx, t, a, "nightly-discard-")
	if text := fmt.Sprint(at(job, "spec")); !strings.Contains(text, "prod/lost/nightly-") {
		t.Errorf("it does not say what to remove: %s", text)
	}
	if o, err := a.object(ctx, record); err != nil || o == nil {
		t.Fatalf("the record went before its file: %v", err)
	}
	finishJob(ctx, t, a, nameOf(job))
	gone(ctx, t, a, record)
}

// makeSeed makes the pod and the claim that controllers would make, and tells the pod's UID.
func makeSeed(ctx context.Context, t *testing.T, a *api, set tree) string {
	t.Helper()
	claim := at(set, "spec", "volumeClaimTemplates").([]any)[0].(tree)
	claim["apiVersion"], claim["kind"] = "v1", "PersistentVolumeClaim"
	meta := claim["metadata"].(tree)
	meta["name"], meta["labels"] = "data-main-0", at(set, "spec", "selector", "matchLabels")
	delete(claim, "status")
	template := at(set, "spec", "template").(tree)
	pod := tree{"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]}
	pod["metadata"].(tree)["name"] = "main-0"
	spec := pod["spec"].(tree)
	volume := tree{"name": "data", "persistentVolumeClaim": tree{"claimName": "data-main-0"}}
	spec["volumes"] = append(spec["volumes"].([]any), volume)
	for path, o := range map[string]tree{"persistentvolumeclaims": claim, "pods": pod} {
		if _, err := a.call(ctx, "POST", core+path, nil, "application/json", marshal(t, o)); err != nil {
			t.Fatal(err)
		}
	}
	// Nobody is here to let a claim go once it is not in use.
	free := marshal(t, tree{"metadata": tree{"finalizers": nil}})
	if _, err := a.call(ctx, "PATCH", core+"persistentvolumeclaims/data-main-0", nil, mergePatch, free); err != nil {
		t.Fatal(err)
	}
	return at(there(ctx, t, a, core+"pods/main-0", nil), "metadata", "uid").(string)
}

// onlyJob waits for the one Job whose name begins so.
func onlyJob(ctx context.Context, t *testing.T, a *api, begin string) tree {
	t.Helper()
	var found []tree
	eventually(ctx, t, begin, func() error {
		list, err := a.object(ctx, batch+"jobs")
		if err != nil {
			return err
		}
		found = nil
		for _, one := range at(list, "items").([]any) {
			if strings.HasPrefix(nameOf(one.(tree)), begin) {
				found = append(found, one.(tree))
			}
		}
		if len(found) != 1 {
			return fmt.Errorf("there are %d", len(found))
		}
		return nil
	})
	return found[0]
}

// finishJob says of a Job what its controller would say.
func finishJob(ctx context.Context, t *testing.T, a *api, name string) {
	t.Helper()
	now := "2026-01-01T00:00:00Z"
	condition := func(kind string) tree { return tree{"type": kind, "status": "True", "lastTransitionTime": now} }
	change(ctx, t, a, batch+"jobs/"+name+"/status", tree{"status": tree{
		"startTime": now, "completionTime": now, "succeeded": 1,
		"conditions": []tree{condition("SuccessCriteriaMet"), condition("Complete")},
	}})
}
