package harness

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
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

// Authority is a CA made for one test.
type Authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	// PEM is its certificate.
	PEM []byte
}

// Subject is what a certificate says. Without usages it is good for servers and clients alike.
type Subject struct {
	CN     string
	Names  []string // DNS names and IP addresses
	Serial int64
	Usages []x509.ExtKeyUsage
	Ended  bool // it was valid until a minute ago
}

// Issued is a certificate with its key.
type Issued struct {
	Cert, Key []byte // PEM
}

// NewAuthority makes a CA.
func NewAuthority(t testing.TB, cn string) *Authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: cn},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	ok(t, err)
	cert, err := x509.ParseCertificate(der)
	ok(t, err)
	return &Authority{t: t, cert: cert, key: key, PEM: encode("CERTIFICATE", der)}
}

// Issue signs a certificate.
func (a *Authority) Issue(subject Subject) Issued {
	a.t.Helper()
	key := newKey(a.t)
	usages := subject.Usages
	if usages == nil {
		usages = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(max(subject.Serial, 2)),
		Subject:      pkix.Name{CommonName: subject.CN},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  usages,
	}
	if subject.Ended {
		template.NotAfter = time.Now().Add(-time.Minute)
	}
	for _, name := range subject.Names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	ok(a.t, err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	ok(a.t, err)
	return Issued{Cert: encode("CERTIFICATE", der), Key: encode("EC PRIVATE KEY", keyDER)}
}

// Revoke is a revocation list, DER.
func (a *Authority) Revoke(serials ...int64) []byte {
	a.t.Helper()
	template := &x509.RevocationList{
		Number:     big.NewInt(1),
		ThisUpdate: time.Now().Add(-time.Minute),
		NextUpdate: time.Now().Add(time.Hour),
	}
	for _, serial := range serials {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: big.NewInt(serial), RevocationTime: time.Now().Add(-time.Minute)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, a.cert, a.key)
	ok(a.t, err)
	return der
}

// ClientTLS believes in the authorities and shows what was issued, if anything was.
func ClientTLS(t testing.TB, shown *Issued, authorities ...*Authority) *tls.Config {
	t.Helper()
	pool := x509.NewCertPool()
	for _, authority := range authorities {
		pool.AddCert(authority.cert)
	}
	config := &tls.Config{RootCAs: pool}
	if shown != nil {
		pair, err := tls.X509KeyPair(shown.Cert, shown.Key)
		ok(t, err)
		// Whatever CAs the server names: what is tried here is what the server makes of it.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return config
}

// Files is a directory of certificates and the like.
type Files struct {
	t   testing.TB
	Dir string
}

// NewFiles makes an empty directory.
func NewFiles(t testing.TB) *Files { return &Files{t: t, Dir: t.TempDir()} }

// Path is where a name is.
func (f *Files) Path(name string) string { return filepath.Join(f.Dir, name) }

// Put replaces a file as a whole and says where it is.
func (f *Files) Put(name string, parts ...[]byte) string {
	f.t.Helper()
	path := f.Path(name)
	ok(f.t, os.WriteFile(path+".new", bytes.Join(parts, nil), 0o600))
	ok(f.t, os.Rename(path+".new", path))
	return path
}

// Pair puts a certificate and its key.
func (f *Files) Pair(name string, issued Issued) (cert, key string) {
	f.t.Helper()
	return f.Put(name+".crt", issued.Cert), f.Put(name+".key", issued.Key)
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	return key
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
