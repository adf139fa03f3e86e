package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"
)

// An authority signs certificates into files of the lab's pki directory.
type authority struct {
	s    *settings
	name string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// writePKI makes every certificate, key and kubeconfig of the cluster.
func writePKI(s *settings) error {
	ca, err := newAuthority(s, "ca")
	if err != nil {
		return err
	}
	front, err := newAuthority(s, "front-proxy-ca")
	if err != nil {
		return err
	}
	if err := serviceAccountKeys(s); err != nil {
		return err
	}
	steps := []error{
		ca.server("apiserver", "kube-apiserver", []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc.cluster.local", "localhost"}, "127.0.0.1", controlIP, apiserver),
		ca.client("kubelet-client", "kube-apiserver", "system:masters"),
		front.client("front-proxy", "front-proxy-client", ""),
	}
	users := map[string][2]string{
		"admin":      {"admin", "system:masters"},
		"controller": {"system:kube-controller-manager", ""},
		"scheduler":  {"system:kube-scheduler", ""},
		"proxy":      {"system:kube-proxy", ""},
	}
	for _, p := range places() {
		users[p.name] = [2]string{"system:node:" + p.name, "system:nodes"}
		steps = append(steps, ca.server(p.name+"-serving", p.name, []string{p.name}, p.ip))
	}
	inside := fmt.Sprintf("https://%s:6443", controlIP)
	for who, user := range users {
		steps = append(steps, ca.client(who, user[0], user[1]), writeKubeconfig(s, who, inside, s.kubeconfig(who)))
	}
	steps = append(steps, writeKubeconfig(s, "admin", fmt.Sprintf("https://127.0.0.1:%d", s.API), s.in("kubeconfig")))
	for _, err := range steps {
		if err != nil {
			return err
		}
	}
	return nil
}

func newAuthority(s *settings, name string) (*authority, error) {
	a := &authority{s: s, name: name}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	return a, a.issue(name, template)
}

func (a *authority) server(file, name string, names []string, ips ...string) error {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: names,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, ip := range ips {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(ip))
	}
	return a.issue(file, template)
}

func (a *authority) client(file, name, group string) error {
	template := &x509.Certificate{
		Subject:  pkix.Name{CommonName: name},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if group != "" {
		template.Subject.Organization = []string{group}
	}
	return a.issue(file, template)
}

// issue writes FILE.crt and FILE.key. The first is the authority's own.
func (a *authority) issue(file string, template *x509.Certificate) error {
	key, err := newKey(a.s, file+".key")
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return err
	}
	template.SerialNumber = serial
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(30*24*time.Hour)
	if a.key == nil {
		a.cert, a.key = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return err
	}
	if a.cert == template {
		if a.cert, err = x509.ParseCertificate(der); err != nil {
			return err
		}
	}
	return writePEM(a.s, file+".crt", "CERTIFICATE", der)
}

func serviceAccountKeys(s *settings) error {
	key, err := newKey(s, "sa.key")
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	return writePEM(s, "sa.pub", "PUBLIC KEY", public)
}

func newKey(s *settings, file string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, writePEM(s, file, "EC PRIVATE KEY", der)
}

func writePEM(s *settings, file, kind string, der []byte) error {
	return os.WriteFile(s.pki(file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

func writeKubeconfig(s *settings, who, server, path string) error {
	var data []any
	for _, file := range []string{"ca.crt", who + ".crt", who + ".key"} {
		text, err := os.ReadFile(s.pki(file))
		if err != nil {
			return err
		}
		data = append(data, base64.StdEncoding.EncodeToString(text))
	}
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: lab, cluster: {server: "%s", certificate-authority-data: %s}}]
users: [{name: lab, user: {client-certificate-data: %s, client-key-data: %s}}]
contexts: [{name: lab, context: {cluster: lab, user: lab}}]
current-context: lab
`, append([]any{server}, data...)...)
	return os.WriteFile(path, []byte(text), 0o600)
}
