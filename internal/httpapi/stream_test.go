package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/httpapi"
	"github.com/holdfast/holdfast/internal/store/memory"
	"github.com/holdfast/holdfast/internal/store/storetest"
)

// TestEventFilters: a filter leaves out what it should, and the place to go on from moves past that.
func TestEventFilters(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("mug", 9)
		h.product("cup", 9)
		mug, cup := h.hold("mug", 1, 60), h.hold("cup", 1, 60)
		h.request("POST", "/v1/orders", fmt.Sprintf(`{"reservationId":%q}`, mug.id()), 201)
		h.request("POST", "/v1/products/cup/adjustments", `{"delta":1,"reason":"count"}`, 201)
		for query, want := range map[string]string{
			"":                                                         "1 2 3 4 5 6 7 > 7",
			"types=product.created":                                    "1 2 > 7",
			"types=order.created,stock.adjusted":                       "6 7 > 7",
			"productId=mug":                                            "1 3 5 6 > 7",
			"productId=cup&types=stock.adjusted":                       "7 > 7",
			"productId=none":                                           "> 7",
			"reservationId=" + mug.id():                                "3 5 6 > 7",
			"reservationId=" + mug.id() + "&after=4":                   "5 6 > 7",
			"reservationId=" + cup.id():                                "4 > 7",
			"reservationId=rsv_none":                                   "> 7",
			"reservationId=" + mug.id() + "&productId=cup":             "> 7",
			"types=order.cancelled&wait=0":                             "> 7",
			"types=product.created&limit=1":                            "1 > 1",
			"types=product.created&limit=1&after=1":                    "2 > 2",
			"types=product.created&limit=1&after=2":                    "> 7",
			"types=reservation.confirmed,order.created&limit=1&wait=9": "5 > 5",
		} {
			a, got := h.request("GET", "/v1/events?"+query, "", 200), ""
			for _, event := range a.at("data").([]any) {
				got += fmt.Sprint(event.(map[string]any)["sequence"], " ")
			}
			if got += fmt.Sprint("> ", a.at("nextAfter")); got != want || a.at("head") != "7" {
				h.Errorf("%s: %s, expected %s", query, got, want)
			}
		}
		for _, query := range []string{"types=", "types=none", "types=order.created,", "productId=", "after=a.1"} {
			if a := h.request("GET", "/v1/events?"+query, "", 400); a.code() != "invalid-request" {
				h.Errorf("%s: %s", query, a.body)
			}
		}
	})
}

// TestFilteredWait: a wait ends when something passes the filter, and not before.
func TestFilteredWait(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("mug", 9)
		answers := make(chan *answer, 1)
		go func() { answers <- h.try("GET", "/v1/events?wait=30&after=1&types=reservation.cancelled", "") }()
		r := h.hold("mug", 1, 60)
		h.hold("mug", 1, 60)
		h.request("POST", "/v1/reservations/"+r.id()+"/cancel", "", 200)
		if a := <-answers; a.at("data.0.sequence") != 4.0 || a.at("data.1") != nil || a.at("nextAfter") != "4" {
			h.Errorf("%s", a.body)
		}
	})
}

// TestSparseFilter: where a filter leaves out more than one look at the journal shows, the pages are empty, and each goes
// further.
func TestSparseFilter(t *testing.T) {
	h := newMemoryHarness(t, storetest.NewClock())
	h.product("mug", 100_000)
	metadata := map[string]string{}
	for i := range 50 {
		metadata[fmt.Sprint("m", i)] = strings.Repeat("x", 500)
	}
	large, _ := json.Marshal(map[string]any{
		"lines": []any{map[string]any{"productId": "mug", "quantity": 1}}, "metadata": metadata,
	})
	operations := strings.Repeat(fmt.Sprintf(`{"operation":"createReservation","body":%s},`, large), 100)
	for range 12 {
		h.batch(`{"operations":[`+strings.TrimSuffix(operations, ",")+`]}`, 200)
	}
	h.request("POST", "/v1/products/mug/adjustments", `{"delta":1,"reason":"last"}`, 201)
	after, pages := "0", 0
	for {
		a := h.request("GET", "/v1/events?types=stock.adjusted&after="+after, "", 200)
		pages++
		if a.at("data.0") != nil {
			if a.at("data.0.sequence") != 1202.0 {
				t.Errorf("%s", a.body)
			}
			break
		}
		if a.at("nextAfter") == after {
			t.Fatalf("page %d ends at %v, as the one before", pages, after)
		}
		after = a.at("nextAfter").(string)
	}
	if pages < 2 {
		t.Error("one page has looked at everything")
	}
}

func TestGetEvent(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("mug", 9)
		h.hold("mug", 1, 60)
		all := h.request("GET", "/v1/events", "", 200)
		for i := range 2 {
			want, _ := json.Marshal(all.at(fmt.Sprint("data.", i)))
			one := h.request("GET", fmt.Sprint("/v1/events/", i+1), "", 200)
			if got, _ := json.Marshal(one.json); string(got) != string(want) {
				h.Errorf("event %d is %s, in the feed it is %s", i+1, got, want)
			}
		}
		for _, none := range []string{"0", "3", "-1", "01", "x", "9223372036854775808", "1.0"} {
			if a := h.request("GET", "/v1/events/"+none, "", 404); a.code() != "event-not-found" {
				h.Errorf("%s: %s", none, a.body)
			}
		}
		h.request("GET", "/v1/events/1?limit=1", "", 400)
	})
}

// message is one message of a stream.
type message struct{ id, event, data string }

// follower reads a stream.
type follower struct {
	*harness
	response *http.Response
	lines    *bufio.Scanner
}

func (h *harness) follow(query string, headers ...string) *follower {
	h.Helper()
	ctx, cancel := context.WithCancel(h.Context())
	h.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, "GET", h.url+"/v1/events"+query, nil)
	if err != nil {
		h.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { response.Body.Close() })
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	return &follower{h, response, lines}
}

// next reads the next message, or its comment: then event is empty.
func (f *follower) next() (m message, more bool) {
	for f.lines.Scan() {
		name, value, _ := strings.Cut(f.lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case f.lines.Text() == "":
			return m, true
		case name == "id":
			m.id = value
		case name == "event":
			m.event = value
		case name == "data":
			m.data = value
		}
	}
	return m, false
}

// expect requires that the next messages have these ids, comments left out.
func (f *follower) expect(ids ...string) {
	f.Helper()
	for _, want := range ids {
		m, more := f.next()
		for m.event == "" && more {
			m, more = f.next()
		}
		var event struct {
			Sequence json.Number
			Type     string
		}
		if err := json.Unmarshal([]byte(m.data), &event); err != nil || m.id != want || event.Type != m.event ||
			string(event.Sequence) != want {
			f.Fatalf("message %+v, expected that of %s: %v", m, want, err)
		}
	}
}

// TestStream: a stream has the events of the feed, goes on with new ones, resumes where a reader was, and says when the
// server stops.
func TestStream(t *testing.T) {
	onEveryStore(t, func(h *harness) {
		h.product("mug", 9)
		all, holds, resumed := h.follow(""), h.follow("?types=reservation.created"), h.follow("?after=1", "Last-Event-ID", "0")
		late := h.follow("?after=1")
		if kind := all.response.Header.Get("Content-Type"); kind != "text/event-stream" ||
			all.response.Header.Get("Cache-Control") != "no-store" {
			h.Errorf("%v", all.response.Header)
		}
		all.expect("1")
		resumed.expect("1")
		r := h.hold("mug", 1, 60)
		all.expect("2")
		late.expect("2")
		holds.expect("2")
		h.request("POST", "/v1/reservations/"+r.id()+"/cancel", "", 200)
		h.hold("mug", 1, 60)
		all.expect("3", "4")
		holds.expect("4")
		own := h.follow("?reservationId=" + r.id())
		own.expect("2", "3")
		h.server.Stop()
		for _, f := range []*follower{all, holds, resumed, late, own} {
			last := message{}
			for m, more := f.next(); more; m, more = f.next() {
				last = m
			}
			if last.event != "end" || last.data != "{}" {
				h.Errorf("the stream ends with %+v", last)
			}
		}
	})
}

// TestStreamRefusals: what is wrong is said before the stream begins.
func TestStreamRefusals(t *testing.T) {
	h := newMemoryHarness(t, storetest.NewClock())
	h.product("mug", 9)
	for query, want := range map[string]string{
		"?limit=1": "invalid-request", "?wait=1": "invalid-request", "?types=none": "invalid-request", "?after=x": "invalid-request",
		"?after=2": "cursor-ahead",
	} {
		f := h.follow(query, "Accept", "text/html, text/event-stream;q=0.9")
		body, _ := io.ReadAll(f.response.Body)
		if f.response.Header.Get("Content-Type") != "application/problem+json" || !strings.Contains(string(body), want) {
			t.Errorf("%s: %s", query, body)
		}
	}
	if f := h.follow("", "Last-Event-ID", "x"); f.response.StatusCode != 400 {
		t.Errorf("Last-Event-ID: %s", f.response.Status)
	}
	head := h.try("HEAD", "/v1/events", "", "Accept", "text/event-stream")
	if head.Header.Get("Content-Type") != "text/event-stream" || len(head.body) > 0 {
		t.Errorf("HEAD: %v %s", head.Header, head.body)
	}
}

// TestQuietStream: where there is nothing for a reader, comments come, with a place from which he can go on.
func TestQuietStream(t *testing.T) {
	clock := storetest.NewClock()
	h := newHarness(t, clock, memory.Open(memory.Options{Now: clock.Now}), httpapi.Options{StreamQuiet: time.Millisecond},
		engine.Options{})
	h.product("mug", 9)
	f := h.follow("?types=order.created")
	for {
		m, more := f.next()
		if !more || m.event != "" {
			t.Fatalf("%+v %v", m, more)
		}
		if m.id == "1" {
			break
		}
	}
}

// TestSlowReader: who does not read is dropped, and keeps nobody waiting meanwhile.
func TestSlowReader(t *testing.T) {
	clock, dropped := storetest.NewClock(), make(chan struct{})
	var once sync.Once
	h := newHarness(t, clock, memory.Open(memory.Options{Now: clock.Now}), httpapi.Options{
		StreamPatience: 10 * time.Millisecond, BytesLimit: 16 << 20,
		Observe: func(o httpapi.Observation) {
			if o.Operation == "listEvents" {
				once.Do(func() { close(dropped) })
			}
		},
	}, engine.Options{})
	h.product("mug", 100_000)
	conn, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /v1/events HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n")
	operation := `{"operation":"createReservation","body":{"lines":[{"productId":"mug","quantity":1}]}},`
	batch := `{"operations":[` + strings.TrimSuffix(strings.Repeat(operation, 1000), ",") + `]}`
	for {
		select {
		case <-dropped:
			return
		default:
			h.batch(batch, 200) // more than the system keeps for a connection
		}
	}
}

// TestManyStreams: many who follow see every event.
func TestManyStreams(t *testing.T) {
	h := newMemoryHarness(t, storetest.NewClock())
	h.product("mug", 1000)
	const streams, holds = 100, 30
	var group sync.WaitGroup
	for range streams {
		f := h.follow("?after=1")
		group.Go(func() {
			for i := range holds {
				if m, _ := f.next(); m.id != fmt.Sprint(i+2) {
					t.Errorf("message %+v, expected that of %d", m, i+2)
					return
				}
			}
		})
	}
	for range holds {
		h.hold("mug", 1, 60)
	}
	group.Wait()
}
