package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast/holdfast/client"
)

// devCommand are the flags of holdfast dev.
type devCommand struct {
	Listen string   `default:"127.0.0.1:8420" help:"Address to listen on; port 0 picks a free one."`
	Sink   []string `sep:"none" placeholder:"URL" help:"Take the events to this sink: ${sinks}. Any number."`
}

// devProducts are what the shop has.
var devProducts = []client.NewProduct{
	{ID: "mug", Name: "Mug", Price: client.Money{Amount: 1999, Currency: "EUR"}, TotalStock: 100},
	{ID: "shirt", Name: "T-shirt", Price: client.Money{Amount: 2500, Currency: "EUR"}, TotalStock: 40},
	{ID: "seat", Name: "Seat in the front row", Price: client.Money{Amount: 8900, Currency: "EUR"}, TotalStock: 3},
	{ID: "poster", Name: "Poster, sold out", Price: client.Money{Amount: 1200, Currency: "EUR"}},
}

// Run implements holdfast dev. The store goes when it ends.
func (c *devCommand) Run(ctx context.Context, env *environment) error {
	folder, err := os.MkdirTemp("", "holdfast-dev-")
	if err != nil {
		return err
	}
	webhooks := defaultWebhooks()
	webhooks.AllowPrivate = true // what is developed runs here
	serve := &serveCommand{
		Listen: c.Listen, Store: "sqlite:" + filepath.Join(folder, "dev.db"), Sink: c.Sink, Relay: true, Sweep: true,
		HoldDefault: 10 * time.Minute, HoldMax: 24 * time.Hour, MaxClockJump: time.Minute, Drain: 5 * time.Second,
		LogLevel: slog.LevelWarn, seed: seedShop, Webhook: webhooks,
	}
	err = serve.Run(ctx, env)
	return errors.Join(err, os.RemoveAll(folder))
}

func seedShop(ctx context.Context, url string) error {
	c := client.New(url)
	for _, p := range devProducts {
		if _, err := c.CreateProduct(ctx, p); err != nil {
			return fmt.Errorf("stocking the shop: %w", err)
		}
	}
	return nil
}
