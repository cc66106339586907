package httpapi_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/httpapi"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/memory"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

// TestClaimedLength: what a caller says of the length of his body takes no memory before the body is there.
func TestClaimedLength(t *testing.T) {
	h := newMemoryHarness(t, storetest.NewClock())
	h.product("mug", 1)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	host := strings.TrimPrefix(h.url, "http://")
	for range 200 {
		conn, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST /v1/reservations HTTP/1.1\r\nHost: shop\r\nContent-Length: %d\r\n\r\n{", 1<<20)
	}
	h.request("GET", "/v1/products/mug", "", 200) // so that the others have been read
	for range 100 {
		runtime.Gosched()
	}
	runtime.ReadMemStats(&after)
	if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 64 {
		t.Errorf("%d MiB for 200 bodies of which one byte came", took)
	}
}

// TestBudget: when the bytes in memory are used up, larger requests are refused before anything happens, small ones go
// on, and what was claimed comes back.
func TestBudget(t *testing.T) {
	clock := storetest.NewClock()
	h := newHarness(t, clock, memory.Open(memory.Options{Now: clock.Now}), httpapi.Options{BytesLimit: 9 << 20}, engine.Options{})
	h.product("mug", 1_000_000)
	metadata := make([]string, inventory.MaxMetadata)
	for i := range metadata {
		metadata[i] = fmt.Sprintf(`"m%d":%q`, i, strings.Repeat("あ", 500))
	}
	ids := make([]string, 100)
	for i := range ids {
		ids[i] = fmt.Sprint("p", i)
		h.request("POST", "/v1/products", fmt.Sprintf(
			`{"id":%q,"name":"Product","price":{"amount":250,"currency":"EUR"},"totalStock":1,"metadata":{%s}}`, ids[i],
			strings.Join(metadata, ",")), 201)
	}
	list := "/v1/products?id=" + strings.Join(ids, "&id=")
	h.request("GET", list, "", 200)
	var stuck []net.Conn
	for range 20 { // each sends most of a large body, and then nothing
		conn, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		body := strings.Repeat(" ", 900<<10)
		fmt.Fprintf(conn, "POST /v1/reservations HTTP/1.1\r\nHost: shop\r\nContent-Length: %d\r\n\r\n%s", 1<<20, body)
		stuck = append(stuck, conn)
	}
	large := `{"productId":"mug","quantity":1}` + strings.Repeat(" ", 900<<10)
	for h.try("POST", "/v1/reservations", large).StatusCode != http.StatusServiceUnavailable {
		runtime.Gosched() // until the bodies above have been read
	}
	a := h.request("POST", "/v1/reservations", large, 503)
	if a.code() != "overloaded" || a.Header.Get("Retry-After") == "" {
		t.Errorf("%s", a.body)
	}
	h.hold("mug", 1, 60)
	h.request("GET", "/v1/products?id=mug", "", 200)
	h.request("GET", list, "", 503)
	for _, conn := range stuck {
		_ = conn.Close()
	}
	for h.try("POST", "/v1/reservations", large).StatusCode != http.StatusCreated {
		runtime.Gosched()
	}
	h.request("GET", "/v1/reservations", "", 200)
}

// countedViews counts the looks into a store.
type countedViews struct {
	store.Store
	views atomic.Int32
}

func (s *countedViews) View(ctx context.Context, read func(store.View) error) error {
	s.views.Add(1)
	return s.Store.View(ctx, read)
}

// TestFeedWaitsForItsPlace: a page of the feed is made once there is room for it, not before.
func TestFeedWaitsForItsPlace(t *testing.T) {
	clock := storetest.NewClock()
	s := &countedViews{Store: memory.Open(memory.Options{Now: clock.Now})}
	h := newHarness(t, clock, s, httpapi.Options{BytesLimit: 1 << 20, RequestTimeout: time.Millisecond}, engine.Options{})
	h.product("mug", 1)
	s.views.Store(0)
	if a := h.request("GET", "/v1/events", "", 503); a.code() != "overloaded" {
		t.Errorf("%s", a.body)
	}
	if n := s.views.Load(); n != 0 {
		t.Errorf("%d looks into the store for a page that has no room", n)
	}
}
