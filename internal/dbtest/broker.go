package dbtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Stop ends the server in good order.
func (s *Server) Stop() {
	_ = syscall.Kill(-s.process.Process.Pid, syscall.SIGTERM)
	<-s.done
}

// Hang stops the server as it is: its connections stay open, and nothing answers until [Server.Continue].
func (s *Server) Hang() {
	_ = syscall.Kill(-s.process.Process.Pid, syscall.SIGSTOP)
	awaitStop(s.process.Process.Pid)
}

// Continue lets a server go on that hangs.
func (s *Server) Continue() { _ = syscall.Kill(-s.process.Process.Pid, syscall.SIGCONT) }

// own starts a server that ends with the test.
func own(t testing.TB, kind string, make func() (*Server, error)) *Server {
	t.Helper()
	s, err := make()
	if err == nil {
		err = s.Start()
	}
	need(t, kind, err)
	t.Cleanup(s.Kill)
	return s
}

// greeting connects, says something and returns the first of what the server answers.
func (s *Server) greeting(say string) (string, error) {
	conn, err := net.DialTimeout("tcp", s.address(), 2*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := conn.Write([]byte(say)); err != nil {
		return "", err
	}
	answer := make([]byte, 1024)
	n, err := conn.Read(answer)
	return string(answer[:n]), err
}

func (s *Server) address() string {
	return (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: s.Port}).String()
}

// Certificate makes files with a certificate for 127.0.0.1, signed by itself, and its key.
func Certificate(folder string) (certificate, key string, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return "", "", err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", err
	}
	certificate, key = filepath.Join(folder, "certificate.pem"), filepath.Join(folder, "key.pem")
	write := func(path, kind string, data []byte) error {
		return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}), 0o600)
	}
	return certificate, key, errors.Join(write(certificate, "CERTIFICATE", signed), write(key, "PRIVATE KEY", secret))
}

// Running reports whether the server has been started and has not ended since.
func (s *Server) Running() bool {
	select {
	case <-s.done:
		return false
	default:
		return true
	}
}
