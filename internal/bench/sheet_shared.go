package bench

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"github.com/holdfast/holdfast/internal/load"
)

// sharedWriters make holds at each of the servers that share a database.
const sharedWriters = 8

// shared are readers of a product at one of two servers on one database, both of which write it.
func (s *sheet) shared(ctx context.Context) error {
	r := SheetRow{
		What: "GET one product, two servers on one PostgreSQL that both hold it / a bare handler alone, 256 connections",
		Goal: 0.4, Aim: 0.7,
	}
	if s.Shared == "" {
		return s.emit(r, Missing("name a PostgreSQL database with --postgres"))
	}
	var servers [2]Child
	for i := range servers {
		c, err := s.Start.ServeStore(ctx, s.Shared)
		if err != nil {
			return err
		}
		defer func() { _ = c.Stop() }() // a server that fails fails what it is asked
		servers[i] = c
	}
	return s.sharedOf(ctx, r, servers)
}

func (s *sheet) sharedOf(ctx context.Context, r SheetRow, servers [2]Child) error {
	products := load.Workload{Name: "holds beside readers", Products: 1, Lines: 1, Units: load.Plenty}
	if err := load.Prepare(ctx, "http://"+servers[0].Host(), &products, "p"); err != nil {
		return err
	}
	product := &load.Read{Name: "GET one product", Path: "/v1/products/" + productID(0), Status: http.StatusOK}
	bare, err := s.bare(ctx, servers[0], product)
	if err != nil {
		return s.emit(r, err)
	}
	read, against := s.reading(servers[0], product, 256), s.reading(bare, product, 256)
	return errors.Join(s.ratio(ctx, r, func(ctx context.Context) (float64, error) {
		return besideWriters(ctx, servers, products, s, read)
	}, against), bare.Stop())
}

// besideWriters measures while clients of both servers hold.
func besideWriters(ctx context.Context, servers [2]Child, w load.Workload, s *sheet, read measurement) (float64, error) {
	var writing sync.WaitGroup
	errs := make([]error, len(servers))
	for i, c := range servers {
		writing.Go(func() {
			r, err := load.Run(ctx, load.RunOptions{
				Host: c.Host(), Workload: w, Prefix: "p", Clients: sharedWriters, Duration: s.Duration,
			})
			if err == nil {
				err = r.Failed()
			}
			errs[i] = err
		})
	}
	rate, err := read(ctx)
	writing.Wait()
	return rate, errors.Join(err, errors.Join(errs...))
}
