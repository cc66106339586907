package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/holdfast/holdfast/client"
	"github.com/holdfast/holdfast/internal/load"
	"github.com/holdfast/holdfast/internal/store"
)

// benchCommand are the measurements.
type benchCommand struct {
	Run     benchRunCommand     `cmd:"" default:"withargs" help:"Load a server, audit it, and print a table."`
	Compare benchCompareCommand `cmd:"" help:"Compare Holdfast with the obvious design on the same database, and with a handler that stores nothing."`
	Sheet   benchSheetCommand   `cmd:"" help:"Measure everything that the embedded store should reach, in one sitting: about ten minutes."`
	Nothing benchNothingCommand `cmd:"" hidden:"" help:"Serve a handler that stores nothing."`
}

// benchRunCommand are the flags of holdfast bench.
type benchRunCommand struct {
	URL      string        `xor:"target" env:"-" help:"A running server to load. It keeps the products and reservations that the run makes."`
	Store    string        `xor:"target" env:"-" help:"A database to start a server on, in a schema or database of its own that is removed afterwards; default: a temporary SQLite file."`
	Workload []string      `default:"hot,uniform,zipf,sellout,carts,life,keys,retries" help:"What buyers do: hot, uniform, zipf, sellout, carts, life, pairs, keys, retries."`
	Clients  int           `default:"64" help:"Connections, 1 to 20000."`
	Duration time.Duration `default:"2s" help:"Of each workload, 100ms to 10m."`
	Rate     float64       `help:"Visits that arrive each second whether or not the server keeps up; latency counts from when a visit should have begun. Without it each client begins its next visit when it has its answer."`
	Sweep    bool          `help:"Raise the rate of the first workload until the server no longer keeps up, and then offer three times as much."`
	Seed     uint64        `default:"1" help:"Buyers of the same seed do the same."`
	JSON     bool          `help:"Print JSON."`
	Report   string        `placeholder:"FILE.html" help:"Write a page with charts that opens without a network."`
}

// Validate is called by kong.
func (c *benchRunCommand) Validate() error {
	for _, name := range c.Workload {
		if _, found := load.FindWorkload(name); !found {
			return fmt.Errorf("--workload %s is none of them: see holdfast bench --help", name)
		}
	}
	switch {
	case c.Clients < 1 || c.Clients > 20_000:
		return errors.New("--clients must be from 1 to 20000")
	case c.Duration < load.Interval || c.Duration > 10*time.Minute:
		return errors.New("--duration must be from 100ms to 10m")
	case c.Rate < 0 || c.Rate > 10_000_000:
		return errors.New("--rate must be from 0 to 10000000")
	}
	return nil
}

// benchOutput is what a run came to.
type benchOutput struct {
	Machine load.Machine   `json:"machine"`
	Results []*load.Result `json:"results"`
	Sweep   *load.Sweep    `json:"sweep,omitempty"`
	Nothing *load.Result   `json:"nothing,omitempty"`
	Audit   load.Audit     `json:"audit"`
}

// Run implements holdfast bench.
func (c *benchRunCommand) Run(env *environment) (err error) {
	b := &bench{environment: env, progress: isTerminal(env.stderr)}
	defer func() { err = errors.Join(err, b.cleanUp()) }()
	out := &benchOutput{Machine: machine()}
	host, err := c.target(b)
	if err != nil {
		return err
	}
	page, err := client.New("http://"+host).EventPage(env, "0", 1, 0)
	if err != nil {
		return fmt.Errorf("reading the event feed: %w", err)
	}
	before := page.Head
	prefix := fmt.Sprintf("bench-%d-", time.Now().UnixNano()) // a server that is loaded again has other products already
	for _, name := range c.Workload {
		if err := c.workload(b, out, host, prefix+name+"-", name); err != nil {
			return err
		}
		if c.Sweep {
			break
		}
	}
	if err := c.nothing(b, out); err != nil {
		return err
	}
	b.say("auditing")
	all := out.Results
	if out.Sweep != nil {
		all = append(slices.Clone(all), out.Sweep.Results()...)
	}
	if err := c.audit(b, out, host, before, all); err != nil {
		return err
	}
	b.say("")
	if c.Report != "" {
		if err := c.report(out); err != nil {
			return err
		}
	}
	if c.JSON {
		err = json.NewEncoder(env.stdout).Encode(out)
	} else {
		err = out.print(env)
	}
	if err == nil && !out.Audit.Clean() {
		err = errReported
	}
	return err
}

// bench is what a measurement has started.
type bench struct {
	*environment
	progress bool
	folder   string
	store    string // URL of the store of the server that was started; empty: none was
	servers  []*childServer
	remove   []func()
}

// say shows what is being done, on a terminal.
func (b *bench) say(line string) {
	if b.progress {
		fmt.Fprint(b.stderr, clearLine, line)
	}
}

func (b *bench) temporary() (string, error) {
	if b.folder == "" {
		folder, err := os.MkdirTemp("", "holdfast-bench-")
		if err != nil {
			return "", err
		}
		b.folder = folder
		b.remove = append(b.remove, func() { _ = os.RemoveAll(folder) })
	}
	return b.folder, nil
}

// scratch makes an empty place in a database, or in a temporary SQLite file.
func (b *bench) scratch(address string) (string, error) {
	folder, err := b.temporary()
	if err != nil {
		return "", err
	}
	if address == "" {
		address = "sqlite:"
	}
	scratch, remove, err := load.Scratch(b, address, folder)
	if err != nil {
		return "", fmt.Errorf("%w: use %s", err, storeHelp)
	}
	b.remove = append(b.remove, remove)
	return scratch, nil
}

func (b *bench) start(server *childServer, err error) (host string, _ error) {
	if err != nil {
		return "", err
	}
	b.servers = append(b.servers, server)
	return server.address, nil
}

func (b *bench) cleanUp() (err error) {
	for _, s := range b.servers {
		err = errors.Join(err, s.stop())
	}
	for _, remove := range slices.Backward(b.remove) {
		remove()
	}
	return err
}

// target finds the server to load, or starts one.
func (c *benchRunCommand) target(b *bench) (host string, err error) {
	if c.URL != "" {
		_, host, found := strings.Cut(strings.TrimSuffix(c.URL, "/"), "http://")
		if !found || strings.Contains(host, "/") {
			return "", fmt.Errorf("%w: --url must be http://HOST:PORT", errUsage)
		}
		return host, nil
	}
	if b.store, err = b.scratch(c.Store); err != nil {
		return "", err
	}
	return b.start(startChild(b, "127.0.0.1:0", b.store))
}

func (c *benchRunCommand) workload(b *bench, out *benchOutput, host, prefix, name string) error {
	w, _ := load.FindWorkload(name)
	b.say(name + ": making products")
	if err := load.Prepare(b, "http://"+host, &w, prefix); err != nil {
		return err
	}
	o := load.RunOptions{
		Host: host, Workload: w, Prefix: prefix, Clients: c.Clients, Duration: c.Duration, Rate: c.Rate, Seed: c.Seed,
		Progress: func(answered int64, elapsed time.Duration) {
			b.say(fmt.Sprintf("%s: %d answers in %.1f s", name, answered, elapsed.Seconds()))
		},
	}
	if c.Sweep {
		sweep, err := load.RunSweep(b, o)
		out.Sweep = sweep
		return err
	}
	result, err := load.Run(b, o)
	if err != nil {
		return err
	}
	out.Results = append(out.Results, result)
	return nil
}

// nothing measures the handler that stores nothing, for scale.
func (c *benchRunCommand) nothing(b *bench, out *benchOutput) error {
	host, err := b.start(startProgram(b, "bench", "nothing"))
	if err != nil {
		return err
	}
	b.say("a handler that stores nothing, for scale")
	w, _ := load.FindWorkload("hot")
	out.Nothing, err = load.Run(b, load.RunOptions{Host: host, Workload: w, Prefix: "p", Clients: c.Clients, Duration: c.Duration, Seed: c.Seed})
	return err
}

// audit opens the store beside the server that was started; of a running server it has the feed.
func (c *benchRunCommand) audit(b *bench, out *benchOutput, host, before string, results []*load.Result) error {
	if b.store == "" {
		return out.Audit.CheckFeed(b, "http://"+host, before, results)
	}
	s, _, err := openStore(b, b.store, storeOptions{readOnly: true, acceptClock: true})
	if err != nil {
		return err
	}
	defer s.Close()
	return out.Audit.Check(b, s, results)
}

func (c *benchRunCommand) report(out *benchOutput) error {
	file, err := os.Create(c.Report)
	if err != nil {
		return err
	}
	err = load.WriteReport(file, &load.Report{Machine: out.Machine, Results: out.Results, Sweep: out.Sweep, Nothing: out.Nothing, Audit: &out.Audit})
	return errors.Join(err, file.Close())
}

func machine() load.Machine {
	v := buildVersion()
	arguments := slices.Clone(os.Args[1:])
	for i, argument := range arguments {
		if _, address, found := strings.Cut(argument, "--store="); found {
			arguments[i] = "--store=" + redact(address)
		} else if i > 0 && arguments[i-1] == "--store" {
			arguments[i] = redact(argument)
		}
	}
	return load.Machine{
		Cores: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH, Go: v.Go, Version: v.Version,
		Command: "holdfast " + strings.Join(arguments, " "), At: time.Now().UTC(),
	}
}

func (o *benchOutput) print(env *environment) error {
	fmt.Fprintf(env.stdout, "%s\n%s, %d cores, %s; the load runs on the same cores\n\n", o.Machine.Command, o.Machine.System, o.Machine.Cores, o.Machine.Go)
	t := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "workload\tanswers/s\tp50\tp90\tp99\tp99.9\tmax\trefused\terrors\tbatch\tcores\tmemory\t")
	results := o.Results
	if o.Sweep != nil {
		results = append(slices.Clone(results), o.Sweep.Results()...)
	}
	for _, r := range results {
		l := r.Latency
		fmt.Fprintf(t, "%s\t%.0f\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.0f\t%.1f\t%d MiB\t\n", r.Label(), r.PerSecond(), micros(l.P50), micros(l.P90), micros(l.P99), micros(l.P999), micros(l.Max),
			tally(r.Refusals), tally(r.Errors), r.Server.BatchCommands, r.Server.Cores, r.Server.ResidentBytes>>20)
	}
	if r := o.Nothing; r != nil {
		l := r.Latency
		fmt.Fprintf(t, "(stores nothing)\t%.0f\t%s\t%s\t%s\t%s\t%s\t\t\t\t\t\t\n", r.PerSecond(), micros(l.P50), micros(l.P90), micros(l.P99), micros(l.P999), micros(l.Max))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if o.Sweep != nil {
		fmt.Fprintf(env.stdout, "\n%s\n", o.Sweep.Sentence())
	}
	return o.printAudit(env)
}

func (o *benchOutput) printAudit(env *environment) error {
	a := &o.Audit
	for _, breach := range a.Breaches {
		fmt.Fprintf(env.stdout, "BREACH %s\n", breach)
	}
	verdict := "clean"
	if !a.Clean() {
		verdict = "NOT clean"
	}
	how := "every row and event verified"
	if !a.Verified {
		how = "followed through the event feed; run holdfast verify on its store for the rows"
	}
	_, err := fmt.Fprintf(env.stdout, "\naudit: %s: %d reservations acknowledged, %d lost, %d units oversold; %d events, %s\n", verdict, a.Acknowledged, a.Lost, a.Oversold, a.Events, how)
	return err
}

// micros shows a latency.
func micros(us int64) string {
	switch {
	case us < 1000:
		return fmt.Sprintf("%d µs", us)
	case us < 100_000:
		return fmt.Sprintf("%.1f ms", float64(us)/1000)
	default:
		return fmt.Sprintf("%d ms", us/1000)
	}
}

// tally adds up and names the most frequent code.
func tally(codes map[string]int) string {
	sum := 0
	for _, n := range codes {
		sum += n
	}
	if sum == 0 {
		return "0"
	}
	most := slices.MaxFunc(slices.Collect(maps.Keys(codes)), func(a, b string) int { return codes[a] - codes[b] })
	return fmt.Sprintf("%d %s", sum, most)
}

// benchNothingCommand serves what the speed is measured against.
type benchNothingCommand struct {
	Fsync string `help:"A file to write and flush before each answer."`
}

// Run implements holdfast bench nothing.
func (c *benchNothingCommand) Run(env *environment) error {
	tuneGC()
	var flushed *os.File
	if c.Fsync != "" {
		var err error
		if flushed, err = os.Create(c.Fsync); err != nil {
			return err
		}
		defer flushed.Close()
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: load.Nothing(flushed), ReadHeaderTimeout: 5 * time.Second}
	fmt.Fprintf(env.stdout, "nothing is ready on http://%s (it stores nothing)\n", listener.Addr())
	go func() {
		<-env.Done()
		_ = server.Close()
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// benchCompareCommand are the flags of holdfast bench compare.
type benchCompareCommand struct {
	Store    string        `env:"-" help:"A database to compare on, in a schema or database of its own that is removed afterwards; default: a temporary SQLite file."`
	Clients  []int         `default:"1,16,64,256" help:"Numbers of clients."`
	Products []int         `default:"1,1000" help:"Numbers of products: 1 is everybody after the same."`
	Duration time.Duration `default:"1s" help:"Of each measurement."`
	Rounds   int           `default:"1" help:"How often each is measured, in turn."`
	HTTP     bool          `default:"true" negatable:"" help:"Measure through HTTP as well."`
	Share    int           `default:"3" help:"How many servers share the database in the last measurement, through HTTP; 0 for none. Not on SQLite."`
	JSON     bool          `help:"Print JSON."`
}

// Validate is called by kong.
func (c *benchCompareCommand) Validate() error {
	for _, n := range c.Clients {
		if n < 1 || n > 10_000 {
			return errors.New("--clients must be from 1 to 10000")
		}
	}
	for _, n := range c.Products {
		if n < 1 || n > 100_000 {
			return errors.New("--products must be from 1 to 100000")
		}
	}
	if c.Duration < load.Interval || c.Rounds < 1 || c.Share < 0 || c.Share > 16 {
		return errors.New("--duration must be 100ms at least, --rounds at least 1, --share from 0 to 16")
	}
	return nil
}

// compareOutput is what a comparison came to.
type compareOutput struct {
	Machine load.Machine      `json:"machine"`
	Rows    []load.Comparison `json:"rows"`
	Sharing []load.Sharing    `json:"sharing,omitempty"` // a round each
}

// Run implements holdfast bench compare.
func (c *benchCompareCommand) Run(env *environment) (err error) {
	b := &bench{environment: env, progress: isTerminal(env.stderr)}
	defer func() { err = errors.Join(err, b.cleanUp()) }()
	o, err := c.options(b)
	if err != nil {
		return err
	}
	if c.HTTP {
		if o.HTTP, err = c.target(b); err != nil {
			return err
		}
		if o.Nothing, err = b.start(startProgram(b, "bench", "nothing")); err != nil {
			return err
		}
	}
	out := compareOutput{Machine: machine()}
	if out.Rows, err = load.Compare(env, o); err != nil {
		return err
	}
	if kind, _, _ := strings.Cut(o.Store, ":"); c.Share > 1 && kind != "sqlite" {
		if out.Sharing, err = c.share(b); err != nil {
			return err
		}
	}
	b.say("")
	if c.JSON {
		return json.NewEncoder(env.stdout).Encode(out)
	}
	return c.print(env, &out)
}

// options have an empty place of their own.
func (c *benchCompareCommand) options(b *bench) (o load.CompareOptions, err error) {
	address, err := b.scratch(c.Store)
	return load.CompareOptions{
		Store: address, Clients: c.Clients, Products: c.Products, Rounds: c.Rounds, Duration: c.Duration, Progress: b.say,
		Open: func(ctx context.Context) (store.Store, error) {
			s, _, err := openStore(ctx, address, storeOptions{})
			return s, err
		},
	}, err
}

// target starts a server with the products of the comparison.
func (c *benchCompareCommand) target(b *bench) (host string, err error) {
	address, err := b.scratch(c.Store)
	if err != nil {
		return "", err
	}
	if host, err = b.start(startChild(b, "127.0.0.1:0", address)); err != nil {
		return "", err
	}
	b.say("making products")
	return host, c.products(b, host, slices.Max(c.Products))
}

func (c *benchCompareCommand) products(b *bench, host string, n int) error {
	w := load.Workload{Products: n, Units: 1_000_000_000}
	return load.Prepare(b, "http://"+host, &w, "p")
}

const (
	sharingClients = 64 // of each server that shares a database
	// sharingTimes is how many times as long they are measured: they take turns, which has to even out.
	sharingTimes = 3
)

// share starts servers on one database and measures them.
func (c *benchCompareCommand) share(b *bench) ([]load.Sharing, error) {
	address, err := b.scratch(c.Store)
	if err != nil {
		return nil, err
	}
	hosts := make([]string, c.Share)
	for i := range hosts {
		if hosts[i], err = b.start(startChild(b, "127.0.0.1:0", address)); err != nil {
			return nil, err
		}
	}
	if err := c.products(b, hosts[0], 1); err != nil {
		return nil, err
	}
	return load.Share(b, hosts, sharingClients, c.Rounds, sharingTimes*c.Duration, b.say)
}

func (c *benchCompareCommand) print(env *environment, o *compareOutput) error {
	fmt.Fprintf(env.stdout, "%s\n%s, %d cores, %s; the load runs on the same cores. Durable holds a second:\n\n", o.Machine.Command, o.Machine.System, o.Machine.Cores, o.Machine.Go)
	t := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "clients\tproducts\tengine\tobvious design\tratio\t")
	if c.HTTP {
		fmt.Fprint(t, "HTTP\tstores nothing\tratio\t")
	}
	fmt.Fprintln(t)
	for _, r := range o.Rows {
		fmt.Fprintf(t, "%d\t%d\t%.0f\t%.0f\t%.1f\t", r.Clients, r.Products, r.Engine, r.Obvious, r.Engine/r.Obvious)
		if c.HTTP {
			fmt.Fprintf(t, "%.0f\t%.0f\t%.2f\t", r.HTTP, r.Nothing, r.HTTP/r.Nothing)
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for i, s := range o.Sharing {
		if i == 0 {
			fmt.Fprintf(env.stdout, "\n%d servers on one database, %d clients each, one product, through HTTP:\n", len(s.Each), sharingClients)
		}
		fmt.Fprintf(env.stdout, "  %.0f together, %.2f of the %.0f that one does alone; the slowest does %.2f of the average\n", s.Together(), s.Together()/s.Alone, s.Alone, s.Slowest())
	}
	legend := "\nThe obvious design is one transaction a request: it takes the unit from the stock row, inserts hold and event, and commits."
	if c.HTTP {
		legend += "\nThe handler that stores nothing reads the request and writes an answer of the same size."
	}
	_, err := fmt.Fprintln(env.stdout, legend)
	return err
}

// benchSheetCommand are the flags of holdfast bench sheet.
type benchSheetCommand struct {
	Parts        []string      `default:"http,engine,alone,overload,large,lapse" enum:"http,engine,alone,overload,large,lapse" help:"What to measure: ${enum}."`
	Duration     time.Duration `default:"2s" help:"Of each measurement."`
	Rounds       int           `default:"3" help:"Medians of so many."`
	Reservations int           `default:"10000000" help:"Reservations in the large store: about 4 GB for ten million."`
	Lapsing      int           `default:"1000000" help:"Holds that lapse at the same instant."`
	JSON         bool          `help:"Print JSON, a row a line."`
}

// Validate is called by kong.
func (c *benchSheetCommand) Validate() error {
	if c.Duration < load.Interval || c.Rounds < 1 || c.Reservations < 1 || c.Lapsing < 1 {
		return errors.New("--duration must be 100ms at least, the numbers at least 1")
	}
	return nil
}

// Host, Kill and Stop make a server of ours a [load.Child].
func (s *childServer) Host() string { return s.address }
func (s *childServer) Kill() error  { return s.kill() }
func (s *childServer) Stop() error  { return s.stop() }

// Run implements holdfast bench sheet.
func (c *benchSheetCommand) Run(env *environment) (err error) {
	b := &bench{environment: env, progress: isTerminal(env.stderr)}
	defer func() { err = errors.Join(err, b.cleanUp()) }()
	folder, err := b.temporary()
	if err != nil {
		return err
	}
	files := 0
	started := func(s *childServer, err error) (load.Child, error) {
		if err != nil {
			return nil, err
		}
		b.servers = append(b.servers, s)
		return s, nil
	}
	m := machine()
	if !c.JSON {
		fmt.Fprintf(env.stdout, "%s\n%s, %d cores, %s; the load runs on the same cores\n\n", m.Command, m.System, m.Cores, m.Go)
	}
	return load.Sheet(env, load.SheetOptions{
		Parts: c.Parts, Duration: c.Duration, Rounds: c.Rounds, Reservations: c.Reservations, Lapsing: c.Lapsing, Progress: b.say,
		Fresh: func() string {
			files++
			return filepath.Join(folder, fmt.Sprintf("%d.db", files))
		},
		Open: func(ctx context.Context, path string, now func() time.Time) (store.Store, error) {
			s, _, err := openStore(ctx, "sqlite:"+path, storeOptions{now: now})
			return s, err
		},
		Serve: func(path string, more ...string) (load.Child, error) {
			return started(startChild(b, "127.0.0.1:0", "sqlite:"+path, more...))
		},
		Nothing: func(flushed bool) (load.Child, error) {
			arguments := []string{"bench", "nothing"}
			if flushed {
				arguments = append(arguments, "--fsync", filepath.Join(folder, "flushed"))
			}
			return started(startProgram(b, arguments...))
		},
	}, func(r load.SheetRow) {
		b.say("")
		if c.JSON {
			_ = json.NewEncoder(env.stdout).Encode(r)
			return
		}
		verdict, relation := "reached", "at least"
		if r.AtMost {
			relation = "at most"
		}
		if !r.Met() {
			verdict = "MISSED"
		}
		fmt.Fprintf(env.stdout, "%-64s %9.2f %-4s %s %g: %s\n    %s\n", r.What, r.Value, r.Unit, relation, r.Goal, verdict, r.Detail)
	})
}
