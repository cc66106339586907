package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestServeNoticesThatItsFileIsGone: a server that nobody asks anything ends once its file was moved away, and says
// why.
func TestServeNoticesThatItsFileIsGone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "shop.db")
	s := serve(t, "--no-sweep", "--store=sqlite:"+file)
	createProducts(t, s.url)
	http.DefaultClient.CloseIdleConnections()
	if err := os.Rename(file, file+".old"); err != nil {
		t.Fatal(err)
	}
	if code := s.wait(); code != exitFailure || !strings.Contains(s.log.String(), file+" was moved or removed") {
		t.Errorf("it ended with %d: %s", code, s.log)
	}
}
