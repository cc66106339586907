package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// A store file of every format lies in formatFiles, and stays there: format-N.db.gz was made by a program that wrote
// format N, and format-N.json says what that program was asked, and answered. A file is made once, when a format is
// about to be released:
//
//	go test ./cmd/holdfast -run TestFormats -write-format-file
const formatFiles = "../../internal/store/sqlite/testdata"

var writeFormatFile = flag.Bool("write-format-file", false, "let TestFormats make the file of this program's format")

// exchange is a request with its answer.
type exchange struct {
	Method   string            `json:"method"`
	Path     string            `json:"path"`
	Key      string            `json:"key,omitempty"` // Idempotency-Key
	Body     string            `json:"body,omitempty"`
	Status   int               `json:"status"`
	Headers  map[string]string `json:"headers"`
	Answer   any               `json:"answer"`
	replayed bool
}

// recording is everything that was asked of a store file, in this order: changes with a key, and reads whose answer no
// later change has altered.
type recording struct {
	At        time.Time  `json:"at"` // the clock at the end
	Exchanges []exchange `json:"exchanges"`
}

// TestFormats: this program opens the store files of all programs before it, finds nothing wrong with them, answers as
// they did, and goes on from there.
func TestFormats(t *testing.T) {
	if *writeFormatFile {
		writeFormat(t)
	}
	files, err := filepath.Glob(filepath.Join(formatFiles, "format-*.db.gz"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no store files in %s: %v", formatFiles, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(file, ".db.gz")
		t.Run(filepath.Base(name), func(t *testing.T) {
			var before recording
			readJSON(t, name+".json", &before)
			path := filepath.Join(t.TempDir(), "store.db")
			unpack(t, file, path)
			verifyClean(t, path) // opened for reading, as it is
			s := openShop(t, path, before.At)
			for i := range before.Exchanges {
				s.same(&before.Exchanges[i])
			}
			s.goOn(&before)
			s.close()
			verifyClean(t, path)
		})
	}
}

func verifyClean(t *testing.T, path string) {
	t.Helper()
	if code, stdout, stderr := execute(t.Context(), "verify", "--store=sqlite:"+path); code != exitOK {
		t.Fatalf("verify: %s%s", stdout, stderr)
	}
}

// shop is a server on a store file, whose clock stands still between requests.
type shop struct {
	*testing.T
	server *server
	mu     sync.Mutex
	at     time.Time
}

func openShop(t *testing.T, path string, at time.Time) *shop {
	t.Helper()
	s := &shop{T: t, at: at}
	stored, kind, err := openStore(t.Context(), "sqlite:"+path, storeOptions{now: s.now})
	if err != nil {
		t.Fatal(err)
	}
	s.server, err = startServer(&serveCommand{
		Listen: "127.0.0.1:0", HoldDefault: 10 * time.Minute, HoldMax: 24 * time.Hour, QueueLimit: 100,
	}, slog.New(slog.DiscardHandler), stored, kind)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *shop) close() {
	s.Helper()
	if err := s.server.stop(time.Minute); err != nil {
		s.Fatal(err)
	}
}

func (s *shop) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
}

func (s *shop) advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = s.at.Add(d)
}

// ask sends a request, and keeps of its answer what a repeat must be answered with as well.
func (s *shop) ask(method, path, key, body string) exchange {
	s.Helper()
	r, err := http.NewRequestWithContext(s.Context(), method, "http://"+s.server.address+path, strings.NewReader(body))
	if err != nil {
		s.Fatal(err)
	}
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer response.Body.Close()
	e := exchange{Method: method, Path: path, Key: key, Body: body, Status: response.StatusCode}
	if err := json.NewDecoder(response.Body).Decode(&e.Answer); err != nil {
		s.Fatal(err)
	}
	e.Headers = map[string]string{}
	for _, name := range []string{"ETag", "Location", "Holdfast-Sequence"} {
		if value := response.Header.Get(name); value != "" {
			e.Headers[name] = value
		}
	}
	e.replayed = response.Header.Get("Idempotent-Replayed") == "true"
	return e
}

// same asks once more, and requires the same answer as then. It may have gained members since.
func (s *shop) same(then *exchange) {
	s.Helper()
	now := s.ask(then.Method, then.Path, then.Key, then.Body)
	if now.Status != then.Status || !reflect.DeepEqual(now.Headers, then.Headers) || now.replayed != (then.Key != "") {
		s.Errorf("%s %s: status %d, headers %v, replayed %v; then status %d, headers %v",
			then.Method, then.Path, now.Status, now.Headers, now.replayed, then.Status, then.Headers)
	}
	if difference := lacking("", now.Answer, then.Answer); difference != "" {
		s.Errorf("%s %s: %s", then.Method, then.Path, difference)
	}
}

// lacking names the first value of an earlier answer that a later one lacks or has changed; "" if there is none.
func lacking(where string, now, then any) string {
	switch then := then.(type) {
	case map[string]any:
		members, _ := now.(map[string]any)
		for name, value := range then {
			member, is := members[name]
			if !is {
				return fmt.Sprintf("%s/%s is missing", where, name)
			}
			if difference := lacking(where+"/"+name, member, value); difference != "" {
				return difference
			}
		}
	case []any:
		items, is := now.([]any)
		if !is || len(items) != len(then) {
			return fmt.Sprintf("%s is %v, not %d items", where, now, len(then))
		}
		for i := range then {
			if difference := lacking(fmt.Sprintf("%s/%d", where, i), items[i], then[i]); difference != "" {
				return difference
			}
		}
	default:
		if now != then {
			return fmt.Sprintf("%s is %v, not %v", where, now, then)
		}
	}
	return ""
}

// list returns the data of a list.
func (s *shop) list(path string) []any {
	s.Helper()
	answer, _ := s.ask("GET", path, "", "").Answer.(map[string]any)
	data, is := answer["data"].([]any)
	if !is {
		s.Fatalf("GET %s: %v", path, answer)
	}
	return data
}

// goOn makes an order of the older of the two holds that were left ACTIVE, lets the other lapse, and reads on where the
// feed ended.
func (s *shop) goOn(before *recording) {
	s.Helper()
	const active = "/v1/reservations?status=ACTIVE"
	feed := before.Exchanges[len(before.Exchanges)-1].Answer.(map[string]any)
	left := s.list(active)
	if len(left) != 2 {
		s.Fatalf("%d holds were left, not 2", len(left))
	}
	body := fmt.Sprintf(`{"reservationId":%q}`, left[1].(map[string]any)["id"])
	if order := s.ask("POST", "/v1/orders", "new", body); order.Status != http.StatusCreated {
		s.Errorf("confirming the hold that was left: %v", order.Answer)
	}
	s.advance(24 * time.Hour)
	if left := s.list(active); len(left) != 0 {
		s.Errorf("holds are left after their deadline: %v", left)
	}
	var types []string
	for _, event := range s.list(fmt.Sprintf("/v1/events?after=%v", feed["head"])) {
		types = append(types, event.(map[string]any)["type"].(string))
	}
	if want := []string{"reservation.confirmed", "order.created", "reservation.expired"}; !slices.Equal(types, want) {
		s.Errorf("the feed goes on with %v, not %v", types, want)
	}
}

// writeFormat makes the store file of this program's format, and refuses to make it again.
func writeFormat(t *testing.T) {
	name := filepath.Join(formatFiles, fmt.Sprintf("format-%d", store.Format))
	if _, err := os.Stat(name + ".db.gz"); err == nil {
		t.Fatalf("%s is there already: a program before this one wrote it, and it stays", name)
	}
	path := filepath.Join(t.TempDir(), "store.db")
	s := openShop(t, path, time.Date(2026, time.January, 31, 9, 0, 0, 0, time.UTC))
	w := &writer{shop: s}
	w.stock()
	w.restored(path)
	w.advance(24 * time.Hour) // the receipts of the first day are indexed now, those of the second not yet
	w.trade()
	w.look()
	w.close() // this leaves one file, without a log
	w.At = w.now()
	text, err := json.MarshalIndent(w.recording, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(formatFiles, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, name+".json", append(text, '\n'))
	pack(t, path, name+".db.gz")
}

// writer asks for something of everything, and records it.
type writer struct {
	*shop
	recording
}

// restored begins an epoch, as for a store that was put in place as a copy.
func (w *writer) restored(path string) {
	w.close()
	stored, _, err := openStore(w.Context(), "sqlite:"+path, storeOptions{now: w.now})
	if err == nil {
		err = errors.Join(store.BeginEpoch(w.Context(), stored, inventory.Epoch{1, 2, 3, 4, 5}), stored.Close())
	}
	if err != nil {
		w.Fatal(err)
	}
	w.shop = openShop(w.T, path, w.now())
}

// do sends a request that must succeed, and returns the id in its answer. A request that changes something gets a key
// of its own.
func (w *writer) do(method, path, body string) (id string) {
	w.Helper()
	w.advance(time.Minute)
	key := ""
	if method != http.MethodGet {
		key = fmt.Sprintf("key-%d", len(w.Exchanges)+1)
	}
	e := w.ask(method, path, key, body)
	if e.Status >= 300 {
		w.Fatalf("%s %s: %v", method, path, e.Answer)
	}
	w.Exchanges = append(w.Exchanges, e)
	id, _ = e.Answer.(map[string]any)["id"].(string)
	return id
}

func (w *writer) hold(body string) (id string) { return w.do("POST", "/v1/reservations", body) }

func (w *writer) order(reservation, rest string) (id string) {
	return w.do("POST", "/v1/orders", fmt.Sprintf(`{"reservationId":%q%s}`, reservation, rest))
}

// stock makes products and changes them.
func (w *writer) stock() {
	w.do("POST", "/v1/products", `{"id":"mug","name":"Mug – grün ☕","price":{"amount":1999,"currency":"EUR"},
		"totalStock":100,"metadata":{"colour":"grün","size":"L"}}`)
	w.do("POST", "/v1/products", `{"id":"lamp","name":"Lamp","price":{"amount":9007199254740991,"currency":"JPY"},
		"totalStock":1000000000000000,"location":"berlin"}`)
	w.do("POST", "/v1/products", `{"name":"The server names it","price":{"amount":0,"currency":"EUR"}}`)
	w.do("PATCH", "/v1/products/mug", `{"name":"Mug","price":{"amount":2199},"metadata":{"size":null}}`)
	received := `{"delta":50,"reason":"received","reference":"delivery 7","location":"paris"}`
	w.do("POST", "/v1/products/mug/adjustments", received)
	w.do("POST", "/v1/products/mug/adjustments", `{"delta":-3,"reason":"broken"}`)
}

// trade makes holds and orders, and ends them in every way. Two holds stay ACTIVE.
func (w *writer) trade() {
	lapses := w.hold(`{"productId":"mug","quantity":4,"ttlSeconds":90}`)
	cart := w.hold(`{"customerId":"anna","metadata":{"channel":"app"},"lines":[{"productId":"mug","quantity":2},
		{"productId":"mug","quantity":1,"location":"paris","unitPrice":{"amount":1,"currency":"EUR"}}]}`)
	w.do("GET", "/v1/reservations/"+lapses, "") // its deadline has passed
	w.do("POST", "/v1/reservations/"+cart+"/extend", `{"ttlSeconds":3600}`)
	given := w.hold(`{"productId":"mug","quantity":7,"customerId":"ben"}`)
	w.do("POST", "/v1/reservations/"+given+"/cancel", `{"reason":"changed their mind"}`)

	shipped := w.order(cart, `,"reference":"pay_1","metadata":{"note":"gift"}`)
	w.do("POST", "/v1/orders/"+shipped+"/fulfill", "")
	refunded := w.order(w.hold(`{"productId":"mug","quantity":5,"customerId":"ben"}`), "")
	w.do("POST", "/v1/orders/"+refunded+"/cancel", `{"reason":"payment was refused"}`)
	w.order(w.hold(`{"productId":"mug","quantity":6,"customerId":"anna"}`), `,"reference":"pay_2"`)

	w.hold(`{"productId":"mug","quantity":8,"ttlSeconds":86400,"customerId":"cleo"}`)
	w.hold(`{"productId":"lamp","quantity":1,"location":"berlin","ttlSeconds":86400}`)
}

// look reads everything, the feed last.
func (w *writer) look() {
	for _, path := range []string{
		"/v1/products", "/v1/products/mug",
		"/v1/reservations", "/v1/reservations?status=ACTIVE", "/v1/reservations?customerId=anna",
		"/v1/reservations?productId=mug&status=ACTIVE",
		"/v1/orders", "/v1/orders?status=CONFIRMED", "/v1/orders?customerId=ben", "/v1/orders?reference=pay_1",
		"/v1/events?limit=1000",
	} {
		w.do("GET", path, "")
	}
}

func readJSON(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func pack(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, to, packed.Bytes())
}

func unpack(t *testing.T, from, to string) {
	t.Helper()
	packed, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	z, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	write(t, to, content)
}
