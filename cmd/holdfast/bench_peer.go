package main

import (
	"context"
	"errors"

	"github.com/holdfast/holdfast/internal/bench"
)

// benchPeerCommand serves what people would use instead of Holdfast.
type benchPeerCommand struct {
	Kind    string `arg:"" enum:"sqlite,postgres-guarded,postgres-for-update,mongodb,redis" help:"What to serve: ${enum}."`
	Address string `arg:"" help:"URL of an empty place of its database."`
}

// Run implements holdfast bench peer.
func (c *benchPeerCommand) Run(ctx context.Context, env *environment) error {
	peer, err := bench.OpenPeer(ctx, c.Kind, c.Address)
	if err != nil {
		return err
	}
	return errors.Join(serveBare(ctx, env, c.Kind, bench.ServePeer(peer)), peer.Close())
}
