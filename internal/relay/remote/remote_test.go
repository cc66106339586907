package remote

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/holdfast/holdfast/client"
	"github.com/holdfast/holdfast/internal/inventory"
)

// TestPlaces: each event has its own place, so that a sink that takes few at a time gets on, also where an epoch begins
// in the middle of a page. The places used to be those of whole pages: whoever was slower than a page began it again for
// ever.
func TestPlaces(t *testing.T) {
	epochs := inventory.Epochs("").Begin(inventory.Epoch{1}, 3)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		after, err := inventory.ParseCursor(r.URL.Query().Get("after"))
		limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
		if err != nil || after.Seq > 0 && epochs.At(after.Seq) != after {
			w.WriteHeader(http.StatusConflict)
			return
		}
		data, seq := "", after.Seq
		for ; seq < 6 && limit > 0; limit-- {
			if seq++; data != "" {
				data += ","
			}
			data += fmt.Sprintf(`{"sequence":%d,"id":"evt_%d"}`, seq, seq)
		}
		fmt.Fprintf(w, `{"data":[%s],"nextAfter":%q,"head":%q,"store":"s"}`, data, epochs.At(seq), epochs.At(6))
	}))
	defer server.Close()
	s, err := Open(client.New(server.URL), filepath.Join(t.TempDir(), "positions.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for begin := int64(0); begin <= 6; begin++ { // wherever a sink has got
		for place := epochs.At(begin); place != epochs.At(6); {
			part, err := s.Read(t.Context(), place, 0)
			if err != nil || len(part.Messages) == 0 || part.Head != 6 {
				t.Fatalf("after %v: %+v %v", place, part, err)
			}
			for i := range part.Messages {
				place = part.Messages[i].Place
				if seq := part.Messages[i].Sequence; place != epochs.At(seq) {
					t.Fatalf("event %d has the place %v", seq, place)
				}
			}
		}
	}
}
