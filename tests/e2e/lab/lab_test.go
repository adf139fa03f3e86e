package main

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

func testSettings(t *testing.T) *settings {
	t.Helper()
	s := &settings{Dir: t.TempDir(), API: 1}
	for _, sub := range []string{"logs", "pki"} {
		if err := os.Mkdir(s.in(sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestFilesAreFilledIn(t *testing.T) {
	s := testSettings(t)
	for _, at := range places() {
		if err := writeNodeFiles(s, at); err != nil {
			t.Fatal(err)
		}
	}
	text, err := manifests(s)
	if err != nil {
		t.Fatal(err)
	}
	if all := text + string(proxyConfig(s)); strings.Contains(all, "{{") || !strings.Contains(all, s.Dir) {
		t.Error("the manifests are not filled in")
	}
	// Every image in them is one that the nodes have.
	for _, image := range regexp.MustCompile(`image: (\S+)`).FindAllStringSubmatch(text, -1) {
		if !regexp.MustCompile(`^keepstone-e2e/(coredns|local-path|volume):v1$`).MatchString(image[1]) {
			t.Errorf("nobody makes %s", image[1])
		}
	}
}

func TestCertificatesAreOfTheirAuthority(t *testing.T) {
	s := testSettings(t)
	if err := writePKI(s); err != nil {
		t.Fatal(err)
	}
	read := func(file string) *x509.Certificate {
		text, err := os.ReadFile(s.pki(file))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return certificate
	}
	roots := x509.NewCertPool()
	roots.AddCert(read("ca.crt"))
	for _, name := range []string{"127.0.0.1", controlIP, apiserver, "kubernetes.default.svc"} {
		if _, err := read("apiserver.crt").Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
			t.Error(err)
		}
	}
	files, err := filepath.Glob(s.pki("*.kubeconfig"))
	if err != nil || len(files) != 4+len(zones) {
		t.Errorf("kubeconfigs: %v, %v", files, err)
	}
}

func TestALabMayNotHideItself(t *testing.T) {
	if _, err := newSettings("/var/lib/x"); err == nil {
		t.Error("its nodes would not see its directory")
	}
}

func TestAPartThatEndsIsStartedAgain(t *testing.T) {
	f := newFamily()
	dir := t.TempDir()
	// It ends at once, so that there are many of it.
	if _, err := f.keep("part", filepath.Join(dir, "log"), "sh", "-c", "echo here"); err != nil {
		t.Fatal(err)
	}
	if err := eventually(func() error {
		text, err := os.ReadFile(filepath.Join(dir, "log"))
		if err == nil && strings.Count(string(text), "here") < 3 {
			err = os.ErrNotExist
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	if err := f.run("fed\n", "grep", "fed"); err != nil {
		t.Error(err)
	}
	if err := f.run("", "false"); err == nil {
		t.Error("a failure is a success")
	}
}

func TestAProcessIsKnownByWhenItStarted(t *testing.T) {
	c := exec.Command("sleep", "1000")
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	started, err := startTime(c.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	s := &settings{PID: c.Process.Pid, Started: started}
	if !s.running() {
		t.Error("it runs")
	}
	if other := (&settings{PID: s.PID, Started: "1"}); other.running() {
		t.Error("another process of the same number is taken for it")
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait()
	for deadline := time.Now().Add(time.Minute); s.running(); {
		if time.Now().After(deadline) {
			t.Fatal("it is gone")
		}
	}
}
