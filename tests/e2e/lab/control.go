package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A plane is the control plane: the first process of its namespaces, and what it has started.
type plane struct {
	s      *settings
	f      *family
	began  time.Time
	parts  map[string]*part
	mu     sync.Mutex // one command at a time
	nodes  map[string]*child
	client *http.Client // of the API server, as its administrator
}

// control is what the first process does. It never returns but for an error: then everything ends with it.
func control(dir string) error {
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return fmt.Errorf("whoever started this is gone: %w", err)
	}
	s, err := readSettings(dir)
	if err != nil {
		return err
	}
	p := &plane{s: s, f: newFamily(), began: time.Now(), parts: map[string]*part{}, nodes: map[string]*child{}}
	api, commands := os.NewFile(3, "api"), os.NewFile(4, "commands")
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"mounts", func() error { return hide(s.Dir) }},
		{"network", p.network},
		{"keepstone serves", p.store},
		{"nodes boot", p.boot},
		{"the API server is ready", p.apiserver},
		{"manifests are applied", p.manifests},
		{"all is ready", p.ready},
		{"commands", func() error { return p.serve(api, commands) }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		fmt.Printf("%6.1f s  %s\n", time.Since(p.began).Seconds(), step.name)
	}
	if err := os.WriteFile(s.in("ready"), nil, 0o644); err != nil {
		return err
	}
	select {}
}

// hiddenDirs are where programs keep what is theirs, whatever they are told: each node has its own.
var hiddenDirs = []string{"/run", "/var/lib", "/var/log"}

// hide gives the namespaces mounts of their own.
func hide(dir string) error {
	// Away from the machine first: what is mounted from here on is seen in here only.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	for _, dir := range hiddenDirs {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	// And from here into containers: they get what is mounted later, and kubelet insists on it.
	return syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, "")
}

func (p *plane) network() error {
	if err := syscall.Sethostname([]byte("keepstone-lab")); err != nil {
		return err
	}
	return first(
		p.f.words("ip link set lo up"),
		// A fixed address: a bridge without takes that of a cable, and another one when that is pulled, and then all nodes
		// send to where nobody is until they ask again.
		p.f.words("ip link add lab address 02:00:00:00:00:01 type bridge"),
		p.f.words("ip addr add %s/24 dev lab", controlIP),
		p.f.words("ip link set lab up"),
	)
}

func (p *plane) keep(name string, command ...string) error {
	part, err := p.f.keep(name, p.s.log(name), command...)
	p.parts[name] = part
	return err
}

// store starts the one member that the cluster's state is in.
func (p *plane) store() error {
	const client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
	if err := p.keep("store", p.s.Store, "--name", "lab", "--data-dir", p.s.in("store"),
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "lab="+peer,
	); err != nil {
		return err
	}
	return eventually(func() error { return get(&http.Client{Timeout: 5 * time.Second}, client+"/health") })
}

func (p *plane) apiserver() error {
	s := p.s
	if err := p.keep("apiserver", append([]string{s.program("kubernetes"), "kube-apiserver"}, apiserverFlags(s)...)...); err != nil {
		return err
	}
	client, err := adminClient(s)
	if err != nil {
		return err
	}
	p.client = client
	if err := eventually(func() error { return get(client, "https://"+controlIP+":6443/readyz") }); err != nil {
		return err
	}
	return first(
		p.keep("controllers", append([]string{s.program("kubernetes"), "kube-controller-manager"}, controllerFlags(s)...)...),
		p.keep("scheduler", append([]string{s.program("kubernetes"), "kube-scheduler"}, schedulerFlags(s)...)...),
		// So that the API server reaches Services. It waits for a node of its name, so it has that of one.
		p.proxy(),
	)
}

func (p *plane) proxy() error {
	if err := os.WriteFile(p.s.in("kube-proxy.yaml"), proxyConfig(p.s), 0o644); err != nil {
		return err
	}
	return first(
		os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644),
		p.keep("proxy", p.s.program("kubernetes"), "kube-proxy", "--config", p.s.in("kube-proxy.yaml"), "--hostname-override", zones[0].node),
	)
}

func adminClient(s *settings) (*http.Client, error) {
	certificate, err := tls.LoadX509KeyPair(s.pki("admin.crt"), s.pki("admin.key"))
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(s.pki("ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{certificate}}}
	return &http.Client{Timeout: 10 * time.Second, Transport: transport}, nil
}

func (p *plane) kubectl(input string, args ...string) error {
	return p.f.run(input, p.s.program("kubernetes"), append([]string{"kubectl", "--kubeconfig", p.s.kubeconfig("admin")}, args...)...)
}

func (p *plane) manifests() error {
	all, err := manifests(p.s)
	if err != nil {
		return err
	}
	return p.kubectl(all, "apply", "--server-side", "-f", "-")
}

// ready waits for nodes, names and volumes.
func (p *plane) ready() error {
	for _, z := range zones {
		if err := eventually(func() error { return p.kubectl("", "get", "node", z.node) }); err != nil {
			return err
		}
	}
	return first(
		p.kubectl("", "wait", "--for=condition=Ready", "node", "--all", "--timeout=120s"),
		p.kubectl("", "--namespace=kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s"),
		p.kubectl("", "--namespace=local-path-storage", "rollout", "status", "deployment/local-path", "--timeout=120s"),
	)
}

// serve opens the two doors to the machine.
func (p *plane) serve(apiFile, commandFile *os.File) error {
	api, err := net.FileListener(apiFile)
	if err != nil {
		return err
	}
	commands, err := net.FileListener(commandFile)
	if err != nil {
		return err
	}
	go func() {
		for {
			from, err := api.Accept()
			if err != nil {
				fmt.Println("the API server's port:", err)
				return
			}
			go forward(from)
		}
	}()
	mux := http.NewServeMux()
	for verb, do := range map[string]func(string) error{
		"fail": p.fail, "boot": p.bootNode, "cut": p.cut, "join": p.join, "load": p.load, "restart": p.restart,
	} {
		mux.HandleFunc("POST /"+verb, func(w http.ResponseWriter, r *http.Request) {
			argument, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<16))
			if err == nil {
				p.mu.Lock()
				defer p.mu.Unlock()
				began := time.Now()
				err = do(string(argument))
				fmt.Printf("%6.1f s  %s %s took %v: %v\n", time.Since(p.began).Seconds(), verb, argument, time.Since(began).Round(time.Millisecond), err)
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		})
	}
	go func() { fmt.Println("commands:", http.Serve(commands, mux)) }()
	return nil
}

// forward connects the machine with the API server.
func forward(from net.Conn) {
	defer from.Close()
	to, err := net.Dial("tcp", controlIP+":6443")
	if err != nil {
		return
	}
	defer to.Close()
	go func() {
		_, _ = io.Copy(to, from)
		_ = to.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(from, to)
}

// restart kills a part of the control plane, which is started again.
func (p *plane) restart(name string) error {
	part, ok := p.parts[name]
	if !ok {
		return fmt.Errorf("no part %q", name)
	}
	return part.kill()
}

func get(client *http.Client, url string) error {
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(answer.Body, 300))
		return fmt.Errorf("%s: %s %s", url, answer.Status, strings.TrimSpace(string(said)))
	}
	return nil
}

// eventually polls until there is no error, or for two minutes.
func eventually(try func() error) error {
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		err := try()
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
