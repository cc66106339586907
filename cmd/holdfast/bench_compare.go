package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast/holdfast/internal/bench"
	"github.com/holdfast/holdfast/internal/load"
	"github.com/holdfast/holdfast/internal/store"
)

// benchCompareCommand are the flags of holdfast bench compare.
type benchCompareCommand struct {
	Store    string        `env:"-" help:"A database to compare on, in a schema or database of its own that is removed afterwards; default: a temporary SQLite file."`
	Postgres string        `env:"-" help:"A PostgreSQL database for the peers that use one, in schemas of their own that are removed afterwards; default: the --store, if it is one."`
	Clients  []int         `default:"1,16,64,256" help:"Numbers of clients."`
	Products []int         `default:"1,1000" help:"Numbers of products: 1 is everybody after the same."`
	Duration time.Duration `default:"1s" help:"Of each measurement."`
	Rounds   int           `default:"1" help:"How often each is measured, in turn: medians."`
	HTTP     bool          `default:"true" negatable:"" help:"Measure through HTTP as well, and the peers."`
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
	if c.Postgres != "" && !isPostgres(c.Postgres) {
		return errors.New("--postgres must be postgres://USER:PASSWORD@HOST/DATABASE")
	}
	return nil
}

func isPostgres(address string) bool {
	scheme, _, _ := strings.Cut(address, ":")
	return scheme == "postgres" || scheme == "postgresql"
}

// compareOutput is what a comparison came to.
type compareOutput struct {
	Machine bench.Machine      `json:"machine"`
	Rows    []bench.Comparison `json:"rows"`
	Skipped []skippedPeer      `json:"skipped"`
	Sharing []bench.Sharing    `json:"sharing,omitempty"` // a round each
}

// skippedPeer was not measured.
type skippedPeer struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// comparing is a comparison under way.
type comparing struct {
	*benchCompareCommand
	*measuring
	out compareOutput
}

// Run implements holdfast bench compare.
func (c *benchCompareCommand) Run(ctx context.Context, env *environment) (err error) {
	m := startMeasuring(env)
	defer func() { err = errors.Join(err, m.cleanUp()) }()
	r := &comparing{c, m, compareOutput{Machine: machine(), Skipped: []skippedPeer{}}}
	if err := r.measure(ctx); err != nil {
		return err
	}
	m.say("")
	if c.JSON {
		return json.NewEncoder(env.stdout).Encode(r.out)
	}
	return c.print(env, &r.out)
}

func (r *comparing) measure(ctx context.Context) error {
	o, err := r.options(ctx)
	if err != nil {
		return err
	}
	if r.HTTP {
		if err := r.startServers(ctx, &o); err != nil {
			return err
		}
	}
	if r.out.Rows, err = bench.Compare(ctx, o); err != nil {
		return err
	}
	if scheme, _, _ := strings.Cut(o.Obvious, ":"); r.Share > 1 && scheme != "sqlite" {
		r.out.Sharing, err = r.share(ctx)
	}
	return err
}

// options have empty places of their own for the engine and the obvious design.
func (r *comparing) options(ctx context.Context) (o bench.CompareOptions, err error) {
	address, err := r.scratch(ctx, r.Store)
	if err != nil {
		return o, err
	}
	obvious, err := r.scratch(ctx, r.Store)
	return bench.CompareOptions{
		Obvious: obvious, Clients: r.Clients, Products: r.Products, Rounds: r.Rounds, Duration: r.Duration, Progress: r.say,
		Open: func(ctx context.Context) (store.Store, error) {
			s, _, err := openStore(ctx, address, storeOptions{})
			return s, err
		},
	}, err
}

// startServers starts what is measured through HTTP: Holdfast, the handler that stores nothing, and those peers that are
// there.
func (r *comparing) startServers(ctx context.Context, o *bench.CompareOptions) error {
	address, err := r.scratch(ctx, r.Store)
	if err != nil {
		return err
	}
	holdfast, err := r.serve(ctx, address)
	if err != nil {
		return err
	}
	nothing, err := r.program(ctx, "bench", "nothing")
	if err != nil {
		return err
	}
	o.HTTP, o.Nothing = holdfast.address, nothing.address
	if o.Peers, err = r.startPeers(ctx); err != nil {
		return err
	}
	r.say("making products")
	for _, server := range append(o.Peers, bench.Server{Name: "Holdfast", Host: o.HTTP}) {
		if err := r.makeProducts(ctx, server.Host, slices.Max(r.Products)); err != nil {
			return fmt.Errorf("%s: %w", server.Name, err)
		}
	}
	return nil
}

func (r *comparing) makeProducts(ctx context.Context, host string, n int) error {
	w := load.Workload{Products: n, Units: load.Plenty}
	return load.Prepare(ctx, "http://"+host, &w, "p")
}

// startPeers starts what people would use instead, as far as it is there.
func (r *comparing) startPeers(ctx context.Context) (list []bench.Server, err error) {
	for _, kind := range []string{bench.PostgresForUpdate, bench.PostgresGuarded} {
		host, err := r.startPostgres(ctx, kind)
		if list, err = r.started(list, bench.PeerNames[kind], host, err); err != nil {
			return nil, err
		}
	}
	for _, appendfsync := range []string{bench.FsyncAlways, bench.FsyncEverySec} {
		name := bench.PeerNames[bench.Redis] + ", appendfsync " + appendfsync
		host := ""
		child, err := r.redis(ctx, appendfsync)
		if err == nil {
			host = child.address
		}
		if list, err = r.started(list, name, host, err); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// started adds a peer to those that are measured, or says why it is none of them.
func (r *comparing) started(list []bench.Server, name, host string, err error) ([]bench.Server, error) {
	var missing bench.Missing
	if errors.As(err, &missing) {
		r.out.Skipped = append(r.out.Skipped, skippedPeer{name, missing.Error()})
		fmt.Fprintf(r.stderr, "SKIPPED %s: %s\n", name, missing)
		return list, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return append(list, bench.Server{Name: name, Host: host}), nil
}

func (r *comparing) startPostgres(ctx context.Context, kind string) (host string, err error) {
	address := r.Postgres
	if address == "" && isPostgres(r.Store) {
		address = r.Store
	}
	if address == "" {
		return "", bench.Missing("no PostgreSQL was named: give --postgres URL, or a --store that is one")
	}
	if address, err = r.scratch(ctx, address); err != nil {
		return "", err
	}
	peer, err := r.peer(ctx, kind, address)
	if err != nil {
		return "", err
	}
	return peer.address, nil
}

const (
	sharingClients = 64 // of each server that shares a database
	// sharingTimes is how many times as long they are measured: they take turns, which has to even out.
	sharingTimes = 3
)

// share starts servers on one database and measures them.
func (r *comparing) share(ctx context.Context) ([]bench.Sharing, error) {
	address, err := r.scratch(ctx, r.Store)
	if err != nil {
		return nil, err
	}
	hosts := make([]string, r.Share)
	for i := range hosts {
		server, err := r.serve(ctx, address)
		if err != nil {
			return nil, err
		}
		hosts[i] = server.address
	}
	if err := r.makeProducts(ctx, hosts[0], 1); err != nil {
		return nil, err
	}
	return bench.Share(ctx, hosts, sharingClients, r.Rounds, sharingTimes*r.Duration, r.say)
}
