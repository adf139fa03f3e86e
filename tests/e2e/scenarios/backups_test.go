package scenarios

import (
	"errors"
	"fmt"
	"testing"

	"keepstone.io/e2e/harness"
)

// TestBackups takes snapshots by schedule into an S3 bucket, keeps two, takes one by hand, and makes another cluster of it.
func TestBackups(t *testing.T) {
	w := harness.New(t)
	w.StartS3()
	client := w.Found("main", 3, `backup: {full: {schedule: "* * * * *"}, retention: {keepLast: 2}, store: `+harness.Store+`}`)
	w.Await(harness.Clusters, "main", "with a young backup", harness.Has("BackupHealthy", "True", "BackupFresh"))
	w.Say("the first is taken")
	completed := func() (names []string) {
		for _, o := range w.List(harness.Backups) {
			if harness.Text(&o, "status", "phase") == "Completed" {
				names = append(names, o.GetName())
			}
		}
		return names
	}
	seen := map[string]bool{}
	w.Eventually("three were taken, and two are kept", func() error {
		now := completed()
		for _, name := range now {
			seen[name] = true
		}
		if len(seen) < 3 || len(now) != 2 {
			return fmt.Errorf("%d taken, %d there", len(seen), len(now))
		}
		return nil
	})
	client.Stop()
	takenByHand(w)
	takenOntoVolume(w)
	restored(w, "copy", client)
}

// takenOntoVolume has a backup taken of main that lies on a volume.
func takenOntoVolume(w *harness.World) {
	w.T.Helper()
	w.Apply(`apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: backups}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: keepstone.io/v1alpha1
kind: EtcdBackup
metadata: {name: on-a-volume}
spec: {clusterRef: {name: main}, store: {pvc: {claimName: backups}}}
`)
	w.Await(harness.Backups, "on-a-volume", "complete", backedUp)
	w.Say("one is on a volume")
}

// takenByHand has the backup by-hand taken of main.
func takenByHand(w *harness.World) {
	w.T.Helper()
	w.Apply(`apiVersion: keepstone.io/v1alpha1
kind: EtcdBackup
metadata: {name: by-hand}
spec: {clusterRef: {name: main}, store: %s}
`, harness.Store)
	taken := w.Await(harness.Backups, "by-hand", "complete", backedUp)
	w.Say("by hand: %s, %d bytes, revision %d", harness.Text(taken, "status", "artifact", "uri"),
		harness.Number(taken, "status", "artifact", "sizeBytes"), harness.Number(taken, "status", "artifact", "revision"))
}

func backedUp(o *harness.Object) error {
	if phase := harness.Text(o, "status", "phase"); phase != "Completed" {
		_, reason, message := harness.Condition(o, "Completed")
		return fmt.Errorf("it is %s (%s): %s", phase, reason, message)
	}
	return nil
}

// restored makes a cluster of the backup by-hand, and wants what a client wrote in it. There are members on all nodes
// already, so that it shares them.
func restored(w *harness.World, name string, before *harness.Client) {
	w.T.Helper()
	w.Apply("%s", fromBackup(name))
	w.AwaitSettled(name, 3)
	w.Await(harness.Clusters, name, "a cluster of its own", func(o *harness.Object) error {
		if id := harness.Text(o, "status", "clusterID"); id == harness.Text(w.Get(harness.Clusters, "main"), "status", "clusterID") {
			return errors.New("it has the ID of the cluster that was saved")
		}
		return nil
	})
	client := w.StartClient(name)
	client.MustHave(before)
	client.AwaitPuts(50)
	client.Stop()
}

func fromBackup(name string) string {
	return harness.Cluster(name, "size: 3", harness.Quick, "bootstrap: {restore: {from: {backupRef: {name: by-hand}}}}")
}

// TestKilledMidRestore has the operator die while a cluster is being made of a backup.
func TestKilledMidRestore(t *testing.T) {
	w := harness.New(t)
	w.StartS3()
	client := w.Found("main", 1, harness.Quick)
	client.AwaitPuts(200)
	client.Stop()
	takenByHand(w)
	// Nothing can be put in place as long as no node takes a pod.
	w.Cordon(true, w.Nodes()...)
	w.Apply("%s", fromBackup("copy"))
	w.Await(harness.Clusters, "copy", "restoring", harness.Has("Progressing", "True", "Restoring"))
	w.KillOperator()
	w.Cordon(false, w.Nodes()...)
	restored(w, "copy", client)
}

// TestRestoredInPlace gives up what a cluster has for a backup of it. An order with a backup that is not there touches nothing.
// One with an object that nobody has fails after what there was has been saved, and the next order takes its place.
func TestRestoredInPlace(t *testing.T) {
	w := harness.New(t)
	w.StartS3()
	before := w.Found("main", 3, harness.Quick)
	before.AwaitPuts(200)
	before.Stop()
	takenByHand(w)
	after := w.StartClient("main")
	after.AwaitPuts(100)
	after.Stop()
	id := harness.Text(w.AwaitSettled("main", 3), "status", "clusterID")
	restore := func(order, from string) {
		w.Apply(`apiVersion: keepstone.io/v1alpha1
kind: EtcdOperation
metadata: {name: %s}
spec: {clusterRef: {name: main}, restore: {from: %s, confirm: main/%s}}
`, order, from, id)
	}
	ended := func(want string) func(*harness.Object) error {
		return func(o *harness.Object) error {
			if phase := harness.Text(o, "status", "phase"); phase != want {
				return fmt.Errorf("it is %s: %s", phase, harness.Text(o, "status", "message"))
			}
			return nil
		}
	}
	restore("in-vain", "{backupRef: {name: nowhere}}")
	w.Await(harness.Operations, "in-vain", "rejected", ended("Rejected"))
	if now := harness.Text(w.AwaitSettled("main", 3), "status", "clusterID"); now != id {
		t.Fatalf("the cluster was %s, and is %s", id, now)
	}
	restore("of-nothing", "{object: {key: nothing.db, store: "+harness.Store+"}}")
	// Each attempt is a Job of four, with pauses between them.
	for attempt := int64(2); attempt <= 3; attempt++ {
		w.Await(harness.Clusters, "main", "at another attempt", func(o *harness.Object) error {
			if now := harness.Number(o, "status", "operation", "bootstrap", "attempt"); now != attempt {
				return fmt.Errorf("it is at attempt %d, not %d", now, attempt)
			}
			return nil
		})
		w.Say("attempt %d", attempt)
	}
	w.Await(harness.Operations, "of-nothing", "failed", ended("Failed"))
	w.Await(harness.Clusters, "main", "called failed", harness.Has("Available", "False", "BootstrapFailed"))
	restore("back", "{backupRef: {name: by-hand}}")
	w.Await(harness.Operations, "back", "done", succeeded)
	if harness.Text(w.AwaitSettled("main", 3), "status", "clusterID") == id {
		t.Error("the cluster has its old ID")
	}
	client := w.StartClient("main")
	client.MustHave(before)
	now := client.Keys("/e2e/")
	for key, event := range after.History.State() {
		if now[key] == event {
			t.Errorf("%s was written after the backup, and is there", key)
		}
	}
	client.AwaitPuts(50)
	client.Stop()
}
