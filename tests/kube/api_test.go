package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// answerWithin bounds one request: longer than the apiserver lets any request run (60 s), so that no try is still on
// its way when the next one starts.
const answerWithin = 90 * time.Second

// api is the apiserver as the load sees it. It never retries: a retry nobody knows of would make an acknowledged
// create look like a conflict.
type api struct {
	client *rest.RESTClient
}

func newAPI(config *rest.Config) (*api, error) {
	config = rest.CopyConfig(config)
	config.GroupVersion = &schema.GroupVersion{Version: "v1"}
	config.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	client, err := rest.UnversionedRESTClientFor(config)
	return &api{client}, err
}

// call sends one request and returns the answer's body.
func (a *api) call(ctx context.Context, verb, path string, query url.Values, contentType string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	request := a.request(verb, path, query)
	if body != nil {
		request = request.SetHeader("Content-Type", contentType).Body(body)
	}
	answer, err := request.Do(ctx).Raw()
	if err != nil && len(answer) > 0 {
		err = errorOf(answer) // Raw knows only the code, the body has the whole reason
	}
	return answer, err
}

func (a *api) request(verb, path string, query url.Values) *rest.Request {
	request := a.client.Verb(verb).AbsPath(path).SetHeader("Accept", "application/json").MaxRetries(0)
	for name, values := range query {
		for _, value := range values {
			request = request.Param(name, value)
		}
	}
	return request
}

// send writes body as JSON and reads the object that comes back.
func (a *api) send(ctx context.Context, verb, path string, query url.Values, contentType string, body any) (object, error) {
	var got object
	text, err := json.Marshal(body)
	if err != nil {
		return got, err
	}
	answer, err := a.call(ctx, verb, path, query, contentType, text)
	if err != nil {
		return got, err
	}
	return got, json.Unmarshal(answer, &got)
}

func (a *api) create(ctx context.Context, k *kind, o object) (object, error) {
	return a.send(ctx, "POST", k.collection(o.Metadata.Namespace), nil, "application/json", o)
}

func (a *api) update(ctx context.Context, k *kind, o object) (object, error) {
	return a.send(ctx, "PUT", k.collection(o.Metadata.Namespace)+"/"+o.Metadata.Name, nil, "application/json", o)
}

// remove deletes exactly the object that was read: the UID and the resource version are conditions.
func (a *api) remove(ctx context.Context, k *kind, o object) error {
	body, err := json.Marshal(map[string]any{
		"apiVersion":    "v1",
		"kind":          "DeleteOptions",
		"preconditions": map[string]string{"uid": o.Metadata.UID, "resourceVersion": o.Metadata.ResourceVersion},
	})
	if err != nil {
		return err
	}
	_, err = a.call(ctx, "DELETE", k.collection(o.Metadata.Namespace)+"/"+o.Metadata.Name, nil, "application/json", body)
	return err
}

func (a *api) get(ctx context.Context, k *kind, namespace, name string) (object, error) {
	var got object
	answer, err := a.call(ctx, "GET", k.collection(namespace)+"/"+name, nil, "", nil)
	if err != nil {
		return got, err
	}
	return got, json.Unmarshal(answer, &got)
}

// objectList is one page.
type objectList struct {
	Metadata metadata `json:"metadata"`
	Items    []object `json:"items"`
}

func (a *api) page(ctx context.Context, k *kind, query url.Values) (objectList, error) {
	var got objectList
	answer, err := a.call(ctx, "GET", k.collection(""), query, "", nil)
	if err != nil {
		return got, err
	}
	return got, json.Unmarshal(answer, &got)
}

// watchEvent is one line of a watch.
type watchEvent struct {
	Type   string          `json:"type"`
	Object json.RawMessage `json:"object"`
}

// watch opens a watch behind a resource version and hands its events to take until the stream or ctx ends. A positive
// lifetime asks the apiserver to end the stream after so many seconds.
func (a *api) watch(ctx context.Context, k *kind, after int64, lifetime int, take func(watchEvent) error) error {
	query := url.Values{
		"watch":               {"1"},
		"allowWatchBookmarks": {"1"},
		"resourceVersion":     {strconv.FormatInt(after, 10)},
	}
	if lifetime > 0 {
		query.Set("timeoutSeconds", strconv.Itoa(lifetime))
	}
	stream, err := a.request("GET", k.collection(""), query).Stream(ctx)
	if err != nil {
		return err
	}
	defer stream.Close()
	lines := json.NewDecoder(stream)
	for {
		var event watchEvent
		if err := lines.Decode(&event); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if event.Type == "ERROR" {
			return errorOf(event.Object)
		}
		if err := take(event); err != nil {
			return err
		}
	}
}

// errorOf makes an error of the Status in a refusal's body or in a watch's ERROR event.
func errorOf(status []byte) error {
	failed := &apierrors.StatusError{}
	if err := json.Unmarshal(status, &failed.ErrStatus); err != nil || failed.ErrStatus.Kind != "Status" {
		return fmt.Errorf("a refusal without a status: %s", status)
	}
	return failed
}

// isGone says that a resource version or a continue token is too old: it has been compacted.
func isGone(err error) bool { return apierrors.IsGone(err) || apierrors.IsResourceExpired(err) }

// isDefinite says that the request was refused for what it is; another try would be refused as well. Everything else
// that is not an answer leaves open whether the store has taken the write.
func isDefinite(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) ||
		apierrors.IsBadRequest(err) || apierrors.IsMethodNotSupported(err) || apierrors.IsNotFound(err) ||
		apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsUnsupportedMediaType(err)
}
