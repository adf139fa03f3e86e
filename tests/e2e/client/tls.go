package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/url"
	"os"
	"path/filepath"
)

// tlsConfig reads the files anew for each connection: certificates are renewed while the client runs, and so is whom it
// trusts.
func tlsConfig(o options) (*tls.Config, error) {
	server, err := url.Parse(o.endpoint)
	if err != nil {
		return nil, err
	}
	in := func(file string) string { return filepath.Join(o.tlsDir, file) }
	return &tls.Config{
		ServerName: server.Hostname(),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			certificate, err := tls.LoadX509KeyPair(in("tls.crt"), in("tls.key"))
			return &certificate, err
		},
		// What the package would do itself, but with roots that may change.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			text, err := os.ReadFile(in("ca.crt"))
			if err != nil {
				return err
			}
			roots, between := x509.NewCertPool(), x509.NewCertPool()
			if !roots.AppendCertsFromPEM(text) {
				return errors.New("no certificate in ca.crt")
			}
			for _, certificate := range state.PeerCertificates[1:] {
				between.AddCert(certificate)
			}
			_, err = state.PeerCertificates[0].Verify(x509.VerifyOptions{
				Roots: roots, Intermediates: between, DNSName: server.Hostname(),
			})
			return err
		},
	}, nil
}
