package relay

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAddress(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := ParseAddress("nats://shop@host:4222/stock.events?create=true&passwordFile="+file, "create")
	if err != nil {
		t.Fatal(err)
	}
	if create, err := a.Flag("create"); !create || err != nil || a.User != "shop" || a.Password != "s3cret" ||
		a.Name() != "nats://host:4222/stock.events" {
		t.Errorf("%+v named %s", a, a.Name())
	}
	if a, err = ParseAddress("redis://u:p%40ss@host/s"); err != nil || a.Password != "p@ss" || a.Name() != "redis://host/s" {
		t.Errorf("%+v %v", a, err)
	}
	a, err = ParseAddress("kafka+tls://u:p@a:9092,b.example:9093,[::1]:9094/events?create=true", "create")
	if err != nil || a.Host != "a:9092,b.example:9093,[::1]:9094" || a.Path != "/events" || a.User != "u" ||
		a.Name() != "kafka+tls://a:9092,b.example:9093,[::1]:9094/events" {
		t.Errorf("several hosts: %+v %v", a, err)
	}
	for text, want := range map[string]string{
		"kafka://u:s3cret@a:9092,b:port/x":                  "cannot be read",
		"nats://u:s3cret@host:port/x":                       "cannot be read",
		"nats://s3cret@host/x?create=%zz":                   "cannot be read",
		"nats://user:12/s3cret@host/x":                      "an @ behind its host",
		"nats://u:s3cret@host/x?other=1":                    "has no parameter other",
		"nats://u:s3cret@host/x?create=true&create=true":    "more than once",
		"nats://u:s3cret@host/x?create=%zz":                 "cannot be read",
		"nats://u:s3cret@host/x?passwordFile=/no/such/file": "reading the password",
	} {
		_, err := ParseAddress(text, "create")
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", text, err)
		}
	}
	a, err = ParseAddress("nats://host/x?create=yes", "create")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Flag("create"); err == nil {
		t.Error("create=yes is taken")
	}
}
