package httpapi

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestPanicIsAnswered: a request that panics is answered and counted, and its caller is told nothing of the panic. One
// that is to be aborted is.
func TestPanicIsAnswered(t *testing.T) {
	var observed Observation
	s := &Server{o: Options{Observe: func(o Observation) { observed = o }}.withDefaults()}
	serve := func(value any) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		s.wrap("operation", func(*call) error { panic(value) })(w, httptest.NewRequest("GET", "/", nil))
		return w
	}
	w := serve("a secret")
	if w.Code != 500 || !strings.Contains(w.Body.String(), `"code":"internal"`) || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if observed.Status != 500 || observed.Code != "internal" {
		t.Errorf("observed %+v", observed)
	}
	defer func() {
		if recover() != http.ErrAbortHandler {
			t.Error("an aborted request was answered")
		}
	}()
	serve(http.ErrAbortHandler)
}
