package kube

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A kind is one resource the load is made of, and the way its objects take to the store.
type kind struct {
	apiVersion string
	name       string // the objects' kind
	resource   string
	base       string // path of the group and version
	keys       string // where the apiserver keeps the objects in the store
}

var (
	// Through the apiserver's watch cache, as every resource is by default.
	configMaps = &kind{"v1", "ConfigMap", "configmaps", "/api/v1", "/registry/configmaps/"}
	// Past the watch cache (the apiserver is started so): every list and watch of secrets is one of the store.
	secrets = &kind{"v1", "Secret", "secrets", "/api/v1", "/registry/secrets/"}
	// Custom resources.
	widgets = &kind{"keepstone.test/v1", "Widget", "widgets", "/apis/keepstone.test/v1", "/registry/keepstone.test/widgets/"}
	// What every leader election writes all the time.
	leases = &kind{"coordination.k8s.io/v1", "Lease", "leases", "/apis/coordination.k8s.io/v1", "/registry/leases/"}

	kinds = []*kind{configMaps, secrets, widgets, leases}
)

// loadNamespaces hold the load and nothing else; all other namespaces belong to the apiserver and to the side loads.
var loadNamespaces = []string{"load-0", "load-1", "load-2", "load-3"}

func isLoad(namespace string) bool { return strings.HasPrefix(namespace, "load-") }

// collection is the path of all the kind's objects, in one namespace or, with "", in all.
func (k *kind) collection(namespace string) string {
	if namespace == "" {
		return k.base + "/" + k.resource
	}
	return k.base + "/namespaces/" + namespace + "/" + k.resource
}

// object is what the test reads and writes of an object, of whatever kind.
type object struct {
	APIVersion string            `json:"apiVersion,omitempty"`
	Kind       string            `json:"kind,omitempty"`
	Metadata   metadata          `json:"metadata"`
	Data       map[string]string `json:"data,omitempty"`
	Spec       *leaseSpec        `json:"spec,omitempty"`
}

type metadata struct {
	Name            string            `json:"name,omitempty"`
	Namespace       string            `json:"namespace,omitempty"`
	UID             string            `json:"uid,omitempty"`
	ResourceVersion string            `json:"resourceVersion,omitempty"`
	Continue        string            `json:"continue,omitempty"` // of a list
	Annotations     map[string]string `json:"annotations,omitempty"`
}

type leaseSpec struct {
	HolderIdentity       string `json:"holderIdentity"`
	LeaseDurationSeconds int    `json:"leaseDurationSeconds"`
	RenewTime            string `json:"renewTime"`
}

// A version names the content of one write: which of the object's writes it is, from 1, and which try of it.
type version struct{ step, try int }

const (
	stepAnnotation = "keepstone.test/step"
	tryAnnotation  = "keepstone.test/try"
)

// build makes an object with the content of a version; about 1 KiB.
func (k *kind) build(namespace, name string, v version) object {
	o := object{
		APIVersion: k.apiVersion,
		Kind:       k.name,
		Metadata: metadata{
			Name:        name,
			Namespace:   namespace,
			Annotations: map[string]string{stepAnnotation: strconv.Itoa(v.step), tryAnnotation: strconv.Itoa(v.try)},
		},
	}
	text := payload(name, v)
	if k == leases {
		renewed := time.Now().UTC().Format("2006-01-02T15:04:05.000000Z07:00")
		o.Spec = &leaseSpec{HolderIdentity: text, LeaseDurationSeconds: 15, RenewTime: renewed}
	} else {
		o.Data = map[string]string{"payload": text}
	}
	return o
}

// payload is 1,024 characters that only this version of this object has. It is base64, so that a Secret takes it as
// its bytes and a ConfigMap as its text.
func payload(name string, v version) string {
	var bytes []byte
	for i := 0; len(bytes) < 768; i++ {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %d %d", name, v.step, v.try, i))
		bytes = append(bytes, sum[:]...)
	}
	return base64.StdEncoding.EncodeToString(bytes)
}

// key is the object's place in its kind.
func (o *object) key() string { return o.Metadata.Namespace + "/" + o.Metadata.Name }

func (o *object) revision() (int64, error) {
	return strconv.ParseInt(o.Metadata.ResourceVersion, 10, 64)
}

// version reads which write the object's content is, and checks that it is that content to the last byte.
func (o *object) version() (version, error) {
	step, err := strconv.Atoi(o.Metadata.Annotations[stepAnnotation])
	if err != nil {
		return version{}, fmt.Errorf("%s: annotations %v", o.key(), o.Metadata.Annotations)
	}
	try, err := strconv.Atoi(o.Metadata.Annotations[tryAnnotation])
	if err != nil {
		return version{}, fmt.Errorf("%s: annotations %v", o.key(), o.Metadata.Annotations)
	}
	v := version{step, try}
	text := o.Data["payload"]
	if o.Spec != nil {
		text = o.Spec.HolderIdentity
	}
	if text != payload(o.Metadata.Name, v) {
		return v, fmt.Errorf("%s: the content is not that of its step %d, try %d", o.key(), step, try)
	}
	return v, nil
}
