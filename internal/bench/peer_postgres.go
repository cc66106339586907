package bench

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// postgresPeer is one transaction a request: four round trips.
type postgresPeer struct {
	pool      *pgxpool.Pool
	forUpdate bool
}

// postgresSchema are tables like Holdfast's.
const postgresSchema = `
CREATE TABLE IF NOT EXISTS peer_stock (
	key       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	product   text COLLATE "C" NOT NULL,
	location  text COLLATE "C" NOT NULL,
	available bigint NOT NULL CHECK (available >= 0),
	reserved  bigint NOT NULL CHECK (reserved >= 0),
	UNIQUE (product, location)
);
CREATE TABLE IF NOT EXISTS peer_reservations (
	key        bigint PRIMARY KEY,
	status     integer NOT NULL CHECK (status BETWEEN 1 AND 4),
	expires_at bigint NOT NULL,
	customer   text COLLATE "C",
	stock      bigint[] NOT NULL,
	data       bytea NOT NULL
);
CREATE INDEX IF NOT EXISTS peer_reservations_due ON peer_reservations (expires_at, key) WHERE status = 1;
CREATE INDEX IF NOT EXISTS peer_reservations_customer ON peer_reservations (customer, key) WHERE customer IS NOT NULL;
CREATE TABLE IF NOT EXISTS peer_holds (
	stock       bigint NOT NULL,
	expires_at  bigint NOT NULL,
	reservation bigint NOT NULL,
	PRIMARY KEY (stock, expires_at, reservation)
);
CREATE TABLE IF NOT EXISTS peer_journal (
	batch_no bigint PRIMARY KEY,
	last_seq bigint NOT NULL,
	at       bigint NOT NULL,
	events   bytea NOT NULL
);
CREATE INDEX IF NOT EXISTS peer_journal_seq ON peer_journal (last_seq, batch_no);
`

func openPostgresPeer(ctx context.Context, address string, connections int, forUpdate bool) (*postgresPeer, error) {
	config, err := pgxpool.ParseConfig(address)
	if err != nil {
		return nil, errors.New("the PostgreSQL URL cannot be read")
	}
	config.MaxConns = int32(connections)
	config.ConnConfig.RuntimeParams["synchronous_commit"] = "on"
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	if _, err := pool.Exec(ctx, postgresSchema); err != nil {
		pool.Close()
		return nil, err
	}
	return &postgresPeer{pool, forUpdate}, nil
}

func (p *postgresPeer) Close() error {
	p.pool.Close()
	return nil
}

func (p *postgresPeer) AddProduct(ctx context.Context, id string, units int64) error {
	_, err := p.pool.Exec(ctx, `INSERT INTO peer_stock (product, location, available, reserved)
VALUES ($1, 'main', $2, 0) ON CONFLICT DO NOTHING`, id, units)
	return err
}

func (p *postgresPeer) Hold(ctx context.Context, h Hold) error {
	return pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		if p.forUpdate {
			return takeLocked(ctx, tx, h)
		}
		return takeGuarded(ctx, tx, h)
	})
}

// takeGuarded lets the update see for itself whether there are enough.
func takeGuarded(ctx context.Context, tx pgx.Tx, h Hold) error {
	var stock int64
	err := tx.QueryRow(ctx, `UPDATE peer_stock SET available = available - $2, reserved = reserved + $2
WHERE product = $1 AND location = 'main' AND available >= $2 RETURNING key`, h.Product, h.Quantity).Scan(&stock)
	if errors.Is(err, pgx.ErrNoRows) {
		return errSoldOut
	}
	if err != nil {
		return err
	}
	b := &pgx.Batch{}
	insertHold(b, h, stock)
	return tx.SendBatch(ctx, b).Close()
}

// takeLocked locks the stock row, looks, and then takes.
func takeLocked(ctx context.Context, tx pgx.Tx, h Hold) error {
	var stock, available int64
	err := tx.QueryRow(ctx, `SELECT key, available FROM peer_stock
WHERE product = $1 AND location = 'main' FOR UPDATE`, h.Product).Scan(&stock, &available)
	if err != nil {
		return err
	}
	if available < h.Quantity {
		return errSoldOut
	}
	b := &pgx.Batch{}
	b.Queue(`UPDATE peer_stock SET available = available - $2, reserved = reserved + $2 WHERE key = $1`, stock, h.Quantity)
	insertHold(b, h, stock)
	return tx.SendBatch(ctx, b).Close()
}

// insertHold queues the inserts of a hold, which share a round trip.
func insertHold(b *pgx.Batch, h Hold, stock int64) {
	expires := h.Expires.UnixMilli()
	b.Queue(`INSERT INTO peer_reservations (key, status, expires_at, customer, stock, data)
VALUES ($1, 1, $2, NULL, $3, $4)`, h.Key, expires, []int64{stock}, payload)
	b.Queue(`INSERT INTO peer_holds (stock, expires_at, reservation) VALUES ($1, $2, $3)`, stock, expires, h.Key)
	b.Queue(`INSERT INTO peer_journal (batch_no, last_seq, at, events)
VALUES ($1, $1, $2, $3)`, h.Key, expires, eventPayload)
}
