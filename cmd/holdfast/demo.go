package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/holdfast/holdfast/client"
	"github.com/holdfast/holdfast/internal/audit"
	"github.com/holdfast/holdfast/internal/load"
)

// demoCommand are the flags of holdfast demo.
type demoCommand struct {
	Buyers int    `default:"1000" help:"Simultaneous buyers, 1 to 10000."`
	Units  int64  `default:"100" help:"Units for sale."`
	Listen string `default:"127.0.0.1:0" env:"-" help:"Address of the demo's server; port 0 picks a free one."`
	Exit   bool   `help:"Stop after the audit instead of leaving the server up."`
}

// Validate is called by kong.
func (c *demoCommand) Validate() error {
	if c.Buyers < 1 || c.Buyers > 10_000 || c.Units < 0 || c.Units > 1_000_000 {
		return errors.New("--buyers must be from 1 to 10000 and --units from 0 to 1000000")
	}
	return nil
}

const demoProduct = "concert-ticket"

// crashShare says when the server is killed: once one in so many buyers has had an answer.
const crashShare = 4

// Run implements holdfast demo.
func (c *demoCommand) Run(ctx context.Context, env *environment) (err error) {
	folder, err := os.MkdirTemp("", "holdfast-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	d := &demo{environment: env, command: c, store: "sqlite:" + filepath.Join(folder, "demo.db")}
	defer func() { err = errors.Join(err, d.stop()) }()
	return d.run(ctx)
}

// demo is a sale on a server of its own.
type demo struct {
	*environment
	command *demoCommand
	store   string // URL
	server  *childServer

	killedAt time.Time
	downtime time.Duration
}

func (d *demo) say(format string, a ...any) { fmt.Fprintf(d.stdout, format+"\n", a...) }

func (d *demo) run(ctx context.Context) (err error) {
	d.say("1. Starting a server on a fresh SQLite file, every commit flushed to disk.")
	if d.server, err = startChild(ctx, d.command.Listen, d.store); err != nil {
		return err
	}
	c := client.New(d.server.url)
	_, err = c.CreateProduct(ctx, client.NewProduct{
		ID: demoProduct, Name: "Concert ticket", Price: client.Money{Amount: 8900, Currency: "EUR"},
		TotalStock: d.command.Units,
	})
	if err != nil {
		return err
	}
	d.say(
		"2. %d buyers want one of %d tickets, all at once. The server is killed (SIGKILL) in the middle and started again.",
		d.command.Buyers, d.command.Units)
	sale := load.NewSale(demoProduct, d.command.Buyers)
	done := make(chan *load.SaleResult, 1)
	go func() { done <- sale.Run(ctx, d.server.url) }()
	result, err := d.watch(ctx, sale, done)
	if err != nil {
		return err
	}
	d.say("3. Auditing: every acknowledged order, then every row and every event.")
	clean, err := d.audit(ctx, c, result)
	if err != nil {
		return err
	}
	if !clean {
		return errReported
	}
	if d.command.Exit {
		return nil
	}
	d.invite()
	<-ctx.Done()
	return nil
}

// watch shows the progress of the sale, and kills the server in the middle of it.
func (d *demo) watch(ctx context.Context, sale *load.Sale, done <-chan *load.SaleResult) (*load.SaleResult, error) {
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	shown := -1
	for {
		select {
		case result := <-done:
			d.say("   %5d of %d buyers answered, %d tickets sold", sale.Answered(), sale.Buyers, sale.Sold())
			return result, nil
		case <-ticker.C:
		}
		if tenth := sale.Answered() * 10 / sale.Buyers; tenth != shown {
			shown = tenth
			d.say("   %5d of %d buyers answered, %d tickets sold", sale.Answered(), sale.Buyers, sale.Sold())
		}
		if d.killedAt.IsZero() && sale.Answered() >= sale.Buyers/crashShare {
			if err := d.crash(ctx, sale); err != nil {
				return nil, err
			}
		}
	}
}

func (d *demo) crash(ctx context.Context, sale *load.Sale) (err error) {
	d.killedAt = time.Now()
	if err := d.server.kill(); err != nil {
		return err
	}
	d.say("   CRASH: server killed after %d answers and %d tickets sold", sale.Answered(), sale.Sold())
	if d.server, err = startChild(ctx, d.server.address, d.store); err != nil {
		return err
	}
	d.downtime = time.Since(d.killedAt)
	d.say("   server is back after %d ms", d.downtime.Milliseconds())
	return nil
}

func (d *demo) audit(ctx context.Context, c *client.Client, result *load.SaleResult) (clean bool, err error) {
	missing, stored, err := result.Missing(ctx, c)
	if err != nil {
		return false, err
	}
	product, err := c.Product(ctx, demoProduct)
	if err != nil {
		return false, err
	}
	s, _, err := openStore(ctx, d.store, storeOptions{readOnly: true})
	if err != nil {
		return false, err
	}
	defer s.Close()
	report, err := audit.Run(ctx, s, audit.Options{})
	if err != nil {
		return false, err
	}
	oversold := max(0, int64(stored)-d.command.Units)
	clean = report.Clean() && oversold == 0 && len(missing) == 0 && len(result.Failed) == 0 &&
		len(result.Orders)+result.Refused == d.command.Buyers && product.CommittedStock == int64(stored)
	verdict := "clean"
	if !clean {
		verdict = "NOT clean"
	}
	table := tabwriter.NewWriter(d.stdout, 0, 0, 2, ' ', 0)
	row := func(name, format string, a ...any) {
		fmt.Fprintf(table, "   %s\t%s\n", name, fmt.Sprintf(format, a...))
	}
	fmt.Fprintln(table)
	row("buyers", "%d", d.command.Buyers)
	row("tickets", "%d", d.command.Units)
	row("sold", "%d", len(result.Orders))
	row("refused (sold out)", "%d", result.Refused)
	row("failed", "%d", len(result.Failed))
	row("oversold", "%d", oversold)
	row("hold latency p50 / p99", "%d ms / %d ms, the crash included",
		result.Percentile(0.50).Milliseconds(), result.Percentile(0.99).Milliseconds())
	if !d.killedAt.IsZero() {
		row("the crash cost", "%d ms without a server, %d requests sent again, %d acknowledged orders lost",
			d.downtime.Milliseconds(), result.Repeated, len(missing))
	}
	row("audit", "%s: %d events, %d reservations, %d orders, every unit accounted for",
		verdict, report.Events, report.Reservations, report.Orders)
	fmt.Fprintln(table)
	err = table.Flush()
	for _, breach := range report.Breaches {
		d.say("BREACH %v", breach)
	}
	for _, failure := range result.Failed[:min(len(result.Failed), 5)] {
		d.say("FAILED %v", failure)
	}
	return clean, err
}

func (d *demo) invite() {
	d.say("The server stays up until you press Ctrl-C:\n   API and docs  %s/docs\n   metrics       %s/metrics\n\nTry:",
		d.server.url, d.server.url)
	d.say("   curl -s %s/v1/products/%s", d.server.url, demoProduct)
	d.say("   curl -s %s/v1/reservations -H 'Content-Type: application/json' -d '{\"productId\":\"%s\",\"quantity\":1}'",
		d.server.url, demoProduct)
	d.say("   curl -s '%s/v1/events?after=0&limit=3'", d.server.url)
}

func (d *demo) stop() error {
	if d.server == nil {
		return nil
	}
	return d.server.stop()
}

// childServer is this program, serving in a process of its own so that it can be killed.
type childServer struct {
	process *exec.Cmd
	address string
	url     string
}

const childStartTimeout = 30 * time.Second

// startChild starts a server and waits until it says that it is ready. One that is started again after a kill can have
// the same port at once.
func startChild(ctx context.Context, listen, store string, more ...string) (*childServer, error) {
	return startProgram(ctx,
		append([]string{"serve", "--listen", listen, "--store", store, "--log-level", "warn"}, more...)...)
}

// startProgram starts this program with arguments that make it serve, and waits until it prints its address.
func startProgram(ctx context.Context, arguments ...string) (*childServer, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	process := exec.Command(binary, arguments...)
	process.Stderr = os.Stderr
	process.Env = append(os.Environ(), childEnvironment+"=1") // a test binary must become the program
	stdout, err := process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := process.Start(); err != nil {
		return nil, fmt.Errorf("starting a server: %w", err)
	}
	ready := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(stdout).ReadString('\n')
		ready <- line
		_, _ = io.Copy(io.Discard, stdout)
	}()
	select {
	case line := <-ready:
		_, rest, found := strings.Cut(line, "http://")
		if !found {
			return nil, fmt.Errorf("starting a server: it ended before it was ready: %w", process.Wait())
		}
		address, _, _ := strings.Cut(rest, " ")
		return &childServer{process: process, address: address, url: "http://" + address}, nil
	case <-time.After(childStartTimeout):
		err = errors.New("starting a server: it was not ready in time")
	case <-ctx.Done():
		err = ctx.Err()
	}
	return nil, errors.Join(err, process.Process.Kill(), process.Wait())
}

// childEnvironment is the variable that tells a test binary to be the program.
const childEnvironment = "HOLDFAST_CHILD"

func (s *childServer) kill() error {
	if err := s.process.Process.Kill(); err != nil {
		return err
	}
	_ = s.process.Wait() // its error only says that it was killed
	return nil
}

// stop asks the server to stop and waits until it has. If it was stopped or killed before, it does nothing.
func (s *childServer) stop() error {
	if s.process.ProcessState != nil {
		return nil
	}
	if err := s.process.Process.Signal(os.Interrupt); err != nil {
		return s.kill()
	}
	return s.process.Wait()
}
