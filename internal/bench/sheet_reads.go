package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"

	"github.com/holdfast/holdfast/client"
	"github.com/holdfast/holdfast/internal/load"
)

// listed is how many products the reader of a list asks for: as many as the contract allows.
const listed = 100

// readWrites are the holds that are made beside the readers in some rows, on the product that they read.
const readWrites = 10_000 // a second

// reads are the rows of readers, each beside a handler that gives the same answer and does nothing else.
func (s *sheet) reads(ctx context.Context) error {
	c, err := s.Start.Serve(ctx, s.Fresh())
	if err != nil {
		return err
	}
	return errors.Join(s.readsOf(ctx, c), c.Stop())
}

func (s *sheet) readsOf(ctx context.Context, c Child) error {
	products := load.Workload{Products: listed, Units: load.Plenty}
	if err := load.Prepare(ctx, "http://"+c.Host(), &products, "p"); err != nil {
		return err
	}
	reservation, err := client.New("http://"+c.Host()).Reserve(ctx, client.NewReservation{
		Lines: []client.NewLine{{ProductID: productID(1), Quantity: 1}},
	})
	if err != nil {
		return err
	}
	product := &load.Read{Name: "GET one product", Path: "/v1/products/" + productID(0), Status: http.StatusOK}
	one := &load.Read{Name: "GET one reservation", Path: "/v1/reservations/" + reservation.ID, Status: http.StatusOK}
	list := &load.Read{Name: "GET 100 products by id", Path: listPath(), Status: http.StatusOK}
	return errors.Join(
		s.readRow(ctx, c, product, 64, 0.8, 0.95),
		s.readRow(ctx, c, product, 256, 0.8, 0.95),
		s.unchangedRow(ctx, c, product),
		s.readRow(ctx, c, one, 64, 0.5, 0.7),
		s.readRow(ctx, c, list, 64, 0.5, 0.8),
		s.busyRow(ctx, c, product, 64),
		s.busyRow(ctx, c, product, 256),
	)
}

func listPath() string {
	query := url.Values{}
	for i := range listed {
		query.Add("id", productID(i))
	}
	return "/v1/products?" + query.Encode()
}

// unchangedRow is of a reader who has the current entity tag.
func (s *sheet) unchangedRow(ctx context.Context, c Child, product *load.Read) error {
	a, err := record(ctx, c.Host(), product)
	if err != nil {
		return err
	}
	return s.readRow(ctx, c, &load.Read{
		Name: "GET one product, not modified (304)", Path: product.Path,
		IfNoneMatch: a.Header.Get("ETag"), Status: http.StatusNotModified,
	}, 64, 0.8, 0.95)
}

func (s *sheet) readRow(ctx context.Context, c Child, read *load.Read, clients int, goal, aim float64) error {
	r := SheetRow{What: fmt.Sprintf("%s / a bare handler, %d connections", read.Name, clients), Goal: goal, Aim: aim}
	bare, err := s.bare(ctx, c, read)
	if err != nil {
		return s.emit(r, err)
	}
	return errors.Join(s.ratio(ctx, r, s.reading(c, read, clients), s.reading(bare, read, clients)), bare.Stop())
}

// bare starts a handler that answers as the server does now.
func (s *sheet) bare(ctx context.Context, c Child, read *load.Read) (Child, error) {
	a, err := record(ctx, c.Host(), read)
	if err != nil {
		return nil, err
	}
	return s.Start.Bare(ctx, a)
}

func (s *sheet) reading(c Child, read *load.Read, clients int) measurement {
	return func(ctx context.Context) (float64, error) {
		r, err := load.Run(ctx, load.RunOptions{Host: c.Host(), Read: read, Clients: clients, Duration: s.Duration})
		if err != nil {
			return 0, err
		}
		return r.PerSecond(), r.Failed()
	}
}

// busyRow is of readers of a product while others hold it. The bare handler is alone.
func (s *sheet) busyRow(ctx context.Context, c Child, product *load.Read, clients int) error {
	r := SheetRow{
		What: fmt.Sprintf("%s beside %d holds/s of it / a bare handler alone, %d connections",
			product.Name, readWrites, clients),
		Goal: 0.7, Aim: 0.9,
	}
	bare, err := s.bare(ctx, c, product)
	if err != nil {
		return s.emit(r, err)
	}
	b := &busy{read: s.reading(c, product, clients)}
	var how string
	if b.writers, how, err = s.readWriters(ctx, c); err == nil {
		r, err = s.ratioRow(ctx, r, b.measure, s.reading(bare, product, clients))
	}
	if err == nil {
		r.Detail += fmt.Sprintf("; beside %.0f holds/s, %s", median(b.holds), how)
	}
	return errors.Join(s.emit(r, err), bare.Stop())
}

// readWriters make the holds beside the readers, with as few connections as can be.
func (s *sheet) readWriters(ctx context.Context, c Child) (o load.RunOptions, how string, err error) {
	w := load.Workload{Name: "holds beside readers", Products: 1, Lines: 1}
	o = load.RunOptions{Host: c.Host(), Prefix: "p", Duration: s.Duration}
	found, err := hasBatch(ctx, c.Host())
	if found {
		w.Batch = 100
		o.Clients, o.Rate, how = 2, readWrites/100, "in batches of 100 from 2 connections"
	} else {
		o.Clients, o.Rate, how = 64, readWrites, "one at a time from 64 connections"
	}
	o.Workload = w
	return o, how, err
}

// busy are readers, and writers beside them.
type busy struct {
	read    measurement
	writers load.RunOptions
	holds   []float64 // a second, a value each round
}

func (b *busy) measure(ctx context.Context) (reads float64, err error) {
	var writing sync.WaitGroup
	var written *load.Result
	var writeErr error
	writing.Go(func() { written, writeErr = load.Run(ctx, b.writers) })
	reads, err = b.read(ctx)
	writing.Wait()
	if err = errors.Join(err, writeErr); err != nil {
		return 0, err
	}
	b.holds = append(b.holds, written.GoodPerSecond())
	return reads, written.Failed()
}
