package kube

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// pki is what an apiserver needs: a CA, a serving certificate, an administrator's client certificate and the key that
// signs service-account tokens. Everything lies in files of one directory.
type pki struct {
	dir string
	t   *testing.T

	ca    *x509.Certificate
	caKey *ecdsa.PrivateKey
}

func newPKI(t *testing.T, dir string) *pki {
	t.Helper()
	p := &pki{dir: dir, t: t}
	p.ca, p.caKey = p.issue("ca", &x509.Certificate{
		Subject:               pkix.Name{CommonName: "keepstone test CA"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	})
	p.issue("apiserver", &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		DNSNames:    []string{"localhost", "kubernetes.default.svc"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	p.issue("admin", &x509.Certificate{
		Subject:     pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	p.serviceAccountKeys()
	return p
}

func (p *pki) path(name string) string { return filepath.Join(p.dir, name) }

// issue writes NAME.crt and NAME.key, signed by the CA, or by itself while there is none.
func (p *pki) issue(name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	p.t.Helper()
	key := p.newKey(name + ".key")
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	p.check(err)
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().Add(24 * time.Hour)
	signer, signerKey := p.ca, p.caKey
	if signer == nil {
		signer, signerKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer, key.Public(), signerKey)
	p.check(err)
	p.write(name+".crt", "CERTIFICATE", der)
	certificate, err := x509.ParseCertificate(der)
	p.check(err)
	return certificate, key
}

func (p *pki) serviceAccountKeys() {
	p.t.Helper()
	public, err := x509.MarshalPKIXPublicKey(p.newKey("sa.key").Public())
	p.check(err)
	p.write("sa.pub", "PUBLIC KEY", public)
}

func (p *pki) newKey(file string) *ecdsa.PrivateKey {
	p.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p.check(err)
	der, err := x509.MarshalECPrivateKey(key)
	p.check(err)
	p.write(file, "EC PRIVATE KEY", der)
	return key
}

func (p *pki) write(file, kind string, der []byte) {
	p.t.Helper()
	p.check(os.WriteFile(p.path(file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

func (p *pki) check(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}
