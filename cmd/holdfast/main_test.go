package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"gopkg.in/yaml.v3"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/holdfast/holdfast/client"
	"github.com/holdfast/holdfast/internal/dbtest"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/memory"
)

// TestMain lets the test binary be the program: tests start it as a process that they can kill.
func TestMain(m *testing.M) {
	if os.Getenv(childEnvironment) != "" {
		main()
		return
	}
	if os.Getenv(consumerEnvironment) == "go" {
		fmt.Fprintln(os.Stderr, beConsumer(os.Args[1:]))
		os.Exit(1)
	}
	dbtest.Main(m)
}

// output collects what a command prints, and lets a test wait for a line.
type output struct {
	mu    sync.Mutex
	text  bytes.Buffer
	lines chan string
}

func newOutput() *output { return &output{lines: make(chan string, 100)} }

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(b)
	select {
	case o.lines <- string(b):
	default:
	}
	return len(b), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// execute runs a command line to its end.
func execute(ctx context.Context, arguments ...string) (code int, stdout, stderr string) {
	out, errs := newOutput(), newOutput()
	code = run(ctx, &environment{out, errs}, arguments)
	return code, out.String(), errs.String()
}

func TestUsage(t *testing.T) {
	for line, want := range map[string]struct {
		code int
		says string
	}{
		"":                                                 {exitUsage, "expected one of"},
		"sell":                                             {exitUsage, "unexpected argument sell"},
		"serve --colour=red":                               {exitUsage, "unknown flag"},
		"serve --hold-max=8761h":                           {exitUsage, "--hold-max"},
		"serve --hold-max=500ms":                           {exitUsage, "--hold-max"},
		"serve --hold-default=2h --hold-max=1h":            {exitUsage, "--hold-default"},
		"serve --queue-limit=0":                            {exitUsage, "--queue-limit"},
		"serve --store=redis:x":                            {exitUsage, "sqlite:PATH"},
		"serve --store=sqlite:":                            {exitUsage, "needs a file"},
		"serve --sink=nats://u:secret@host":                {exitUsage, "the sink nats://host names no server or no subject"},
		"serve --sink=rediss://u:secret@host":              {exitUsage, "the sink rediss://host names no server or no stream"},
		"serve --sink=carrier-pigeon:":                     {exitUsage, "redis://HOST/STREAM"},
		"serve --create=sometimes":                         {exitUsage, "--create"},
		"serve --create=never --store=sqlite:none.db":      {exitFailure, "none.db does not exist"},
		"serve --store=sqlite:..":                          {exitFailure, "is a folder"},
		"verify --store=sqlite:..":                         {exitFailure, "is a folder"},
		"serve --store=sqlite:/no/such/folder/db":          {exitFailure, "make it first"},
		"verify --store=sqlite:none.db":                    {exitFailure, "name an existing store file"},
		"verify --store=postgres://u:secret@127.0.0.1:1/d": {exitFailure, "cannot be reached"},

		"verify --store=mongodb://u:secret@127.0.0.1:1/d?serverSelectionTimeoutMS=50": {exitFailure, "cannot be reached"},

		"serve --store=mongodb://u:secret@127.0.0.1:1/?x=secret": {exitFailure, "must name a database"},

		"serve --store=mongodb://u:secret@127.0.0.1:1/d?w=secret&readConcernLevel=1&tls=maybe": {exitFailure, ""},

		"serve --store=postgres://u:secret@127.0.0.1:1/d?sslmode=secret": {exitFailure, "cannot be read"},
		"serve --store=postgres://u:sec%ret@127.0.0.1:1/d":               {exitFailure, "percent-encode"},
		"serve --store=mysql://u:secret@h/d?password=secret":             {exitUsage, "u:xxxxx@h"},
		"verify --store=memory:":                                         {exitUsage, "nothing to read"},
		"bench --workload=none":                                          {exitUsage, "none is none of them"},
		"bench --clients=0":                                              {exitUsage, "--clients"},
		"bench --url=ftp://x":                                            {exitUsage, "http://HOST:PORT"},
		"bench --store=redis:x":                                          {exitFailure, "cannot be measured"},
		"bench compare --share=99":                                       {exitUsage, "--share"},
		"demo --buyers=0":                                                {exitUsage, "--buyers"},
		"--help":                                                         {exitOK, ""},
		"version":                                                        {exitOK, ""},
	} {
		code, _, stderr := execute(t.Context(), strings.Fields(line)...)
		if code != want.code || !strings.Contains(stderr, want.says) || strings.Contains(stderr, "secret") {
			t.Errorf("holdfast %s: exit %d, want %d: %s", line, code, want.code, stderr)
		}
	}
	if code, stdout, _ := execute(t.Context(), "version", "--json"); code != exitOK || !json.Valid([]byte(stdout)) {
		t.Errorf("version --json: %s", stdout)
	}
	t.Setenv("HOLDFAST_STORE", "nonsense:")
	if code, _, stderr := execute(t.Context(), "serve"); code != exitUsage || !strings.Contains(stderr, "nonsense:") {
		t.Errorf("HOLDFAST_STORE is not read: %s", stderr)
	}
}

// served is holdfast serve, running in this process.
type served struct {
	url  string
	stop func() (code int)
	wait func() (code int) // until it ends by itself
	log  *output
}

func serve(t *testing.T, arguments ...string) *served {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, log := newOutput(), newOutput()
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, &environment{out, log}, append([]string{"serve", "--listen=127.0.0.1:0"}, arguments...))
	}()
	var once sync.Once
	code := 0
	wait := func() int {
		once.Do(func() { code = <-done })
		return code
	}
	s := &served{log: log, wait: wait, stop: func() int {
		cancel()
		return wait()
	}}
	t.Cleanup(func() { s.stop() })
	select {
	case line := <-out.lines:
		_, rest, _ := strings.Cut(line, "http://")
		address, _, _ := strings.Cut(rest, " ")
		s.url = "http://" + address
	case code := <-done:
		done <- code
		t.Fatalf("serve ended with %d: %s", code, log)
	}
	return s
}

func TestServe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "shop.db")
	s := serve(t, "--store=sqlite:"+file)
	c := client.New(s.url)
	if _, err := c.CreateProduct(t.Context(), client.NewProduct{
		ID: "mug", Name: "Mug",
		Price: client.Money{Amount: 1, Currency: "EUR"}, TotalStock: 2,
	}); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := execute(t.Context(), "serve", "--listen=127.0.0.1:0",
		"--store=sqlite:"+file); code != exitFailure || !strings.Contains(stderr, file) {
		t.Errorf("a second server on the file: exit %d: %s", code, stderr)
	}
	if code, _, stderr := execute(t.Context(), "serve", "--listen="+strings.TrimPrefix(s.url, "http://"),
		"--store=memory:"); code != exitFailure || !strings.Contains(stderr, "--listen") {
		t.Errorf("a second server on the address: exit %d: %s", code, stderr)
	}
	if code, stdout, stderr := execute(t.Context(), "verify", "--store=sqlite:"+file); code != exitOK ||
		!strings.Contains(stdout, "clean") {
		t.Errorf("verify beside the server: exit %d: %s%s", code, stdout, stderr)
	}
	h2c := http.Client{Transport: &http.Transport{Protocols: new(http.Protocols)}}
	h2c.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(true)
	response, err := h2c.Get(s.url + "/livez")
	if err != nil || response.ProtoMajor != 2 {
		t.Errorf("h2c: %v %v", response, err)
	} else {
		response.Body.Close()
	}
	h2c.CloseIdleConnections()
	response, err = http.Get(s.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	metrics, _ := io.ReadAll(response.Body)
	response.Body.Close()
	for _, name := range []string{
		`holdfast_requests_total{operation="createProduct",status="201"} 1`, "holdfast_batch_commands_count",
		"holdfast_commit_seconds_sum", "holdfast_queue_depth 0", "holdfast_damaged_rows 0",
		`holdfast_holds_total{outcome="expired"} 0`, "holdfast_expiry_lag_seconds", "holdfast_build_info",
		"holdfast_request_seconds_bucket", "process_resident_memory_bytes",
	} {
		if !strings.Contains(string(metrics), name) {
			t.Errorf("metrics lack %s", name)
		}
	}
	// A clean stop answers those who wait, and leaves no write-ahead log behind.
	poll := make(chan error, 1)
	go func() {
		_, err := client.New(s.url, client.WithAttempts(1)).EventPage(context.Background(), "1", 1, 30*time.Second)
		poll <- err
	}()
	if _, err := c.Reserve(t.Context(),
		client.NewReservation{Lines: []client.NewLine{{ProductID: "mug", Quantity: 1}}}); err != nil {
		t.Fatal(err)
	}
	if err := <-poll; err != nil {
		t.Errorf("long poll: %v", err)
	}
	if code := s.stop(); code != exitOK {
		t.Errorf("stopped with %d: %s", code, s.log)
	}
	if _, err := os.Stat(file + "-wal"); !os.IsNotExist(err) {
		t.Errorf("a write-ahead log is left: %v", err)
	}
	code, stdout, _ := execute(t.Context(), "verify", "--json", "--store=sqlite:"+file)
	for _, want := range []string{
		`"clean":true`, `"lastEvent":{"sequence":2,"subject":"rsv_`, `"type":"reservation.created"`,
	} {
		if code != exitOK || !strings.Contains(stdout, want) {
			t.Errorf("verify offline lacks %s: %s", want, stdout)
		}
	}
	_, stdout, _ = execute(t.Context(), "verify", "--store=sqlite:"+file)
	if !strings.Contains(stdout, "last event: number 2, reservation.created of rsv_") {
		t.Errorf("verify does not say how old the store is: %s", stdout)
	}
}

// brokenStore loses its disk at the second batch.
type brokenStore struct {
	store.Store
	batches int
}

func (s *brokenStore) Commit(ctx context.Context, keys *inventory.Keys, decide store.Decide) error {
	if s.batches++; s.batches > 1 {
		return fmt.Errorf("fsync: %w", store.ErrBroken)
	}
	return s.Store.Commit(ctx, keys, decide)
}

// TestBrokenStoreEndsTheServer: once durability is in doubt the batch is answered 504, and the program exits non-zero.
func TestBrokenStoreEndsTheServer(t *testing.T) {
	out, log := newOutput(), newOutput()
	c := &serveCommand{
		Listen: "127.0.0.1:0", HoldDefault: time.Minute,
		HoldMax: time.Hour, QueueLimit: 10, Drain: 5 * time.Second,
	}
	done := make(chan error, 1)
	go func() {
		env := &environment{out, log}
		done <- c.serve(t.Context(), env, c.log(env), &brokenStore{Store: memory.Open(memory.Options{})}, "memory", nil)
	}()
	_, rest, _ := strings.Cut(<-out.lines, "http://")
	address, _, _ := strings.Cut(rest, " ")
	for i, want := range []int{http.StatusCreated, http.StatusGatewayTimeout} {
		response, err := http.Post("http://"+address+"/v1/products", "application/json",
			strings.NewReader(fmt.Sprintf(`{"id":"p%d","name":"n","price":{"amount":1,"currency":"EUR"}}`, i)))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("request %d: %d, want %d", i, response.StatusCode, want)
		}
	}
	if err := <-done; err == nil || !strings.Contains(err.Error(), "holdfast verify") {
		t.Errorf("it ended with %v", err)
	}
}

// changeStock gives stock rows units that no event knows of.
func changeStock(t *testing.T, file string) {
	t.Helper()
	conn, err := sqlite.OpenConn(file, sqlite.OpenReadWrite)
	if err == nil {
		err = errors.Join(sqlitex.Execute(conn, "UPDATE stock SET available = 3", nil), conn.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestVerifyNamesBreaches(t *testing.T) {
	file := filepath.Join(t.TempDir(), "shop.db")
	s := serve(t, "--store=sqlite:"+file)
	if _, err := client.New(s.url).CreateProduct(t.Context(), client.NewProduct{
		ID: "mug", Name: "Mug",
		Price: client.Money{Amount: 1, Currency: "EUR"}, TotalStock: 2,
	}); err != nil {
		t.Fatal(err)
	}
	s.stop()
	changeStock(t, file)
	code, stdout, _ := execute(t.Context(), "verify", "--store=sqlite:"+file)
	if code != exitFailure || !strings.Contains(stdout, "BREACH I9: stock of mug at main") ||
		!strings.Contains(stdout, "NOT clean") {
		t.Errorf("exit %d: %s", code, stdout)
	}
}

// TestDemo is the README's first command.
func TestDemo(t *testing.T) {
	code, stdout, stderr := execute(t.Context(), "demo", "--exit", "--buyers=300", "--units=30")
	if code != exitOK {
		t.Fatalf("exit %d: %s%s", code, stdout, stderr)
	}
	for _, row := range []string{
		"sold 30", "refused (sold out) 270", "failed 0", "oversold 0",
		"0 acknowledged orders lost", "audit clean", "CRASH",
	} {
		if !strings.Contains(strings.Join(strings.Fields(stdout), " "), row) {
			t.Errorf("the table lacks %q:\n%s", row, stdout)
		}
	}
}

// TestDeploy: the command lines of the compose files are this program's, and name stores that it has. Whatever has to be
// there before something else starts says when it is.
func TestDeploy(t *testing.T) {
	files, err := filepath.Glob("../../deploy/*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("%v %v", files, err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var compose struct {
			Services map[string]struct {
				Command     []string
				DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
				HealthCheck map[string]any                        `yaml:"healthcheck"`
			}
		}
		if err := yaml.Unmarshal(content, &compose); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		served := 0
		for name, service := range compose.Services {
			for before, on := range service.DependsOn {
				ready := on.Condition == "service_completed_successfully" ||
					on.Condition == "service_healthy" && compose.Services[before].HealthCheck != nil
				if !ready {
					t.Errorf("%s: %s starts before it is known that %s is well", file, name, before)
				}
			}
			if !strings.HasPrefix(name, "holdfast") {
				continue
			}
			served++
			var all commands
			parser, err := kong.New(&all, helpTexts)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parser.Parse(service.Command); err != nil {
				t.Errorf("%s, %s: %v", file, name, err)
			}
			if kind, _, _ := strings.Cut(all.Serve.Store, ":"); !strings.HasPrefix(filepath.Base(file), kind) {
				t.Errorf("%s, %s: the store is %s", file, name, all.Serve.Store)
			}
		}
		if served == 0 {
			t.Errorf("%s serves nothing", file)
		}
	}
}
