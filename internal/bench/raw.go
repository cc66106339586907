package bench

import (
	"errors"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/holdfast/holdfast/internal/load"
)

// rawBatch is how many holds the raw loop writes in a transaction: as many as a full batch of the door has.
const rawBatch = 1024

// rawLoop writes the rows that holds on one product are made of, in batches of 1,024, by a loop that decides nothing: that
// is what the engine could do at best. It makes its tables, which are like Holdfast's, in a new file.
func rawLoop(path string, d time.Duration) (perSecond float64, err error) {
	conn, err := openSQLiteTables(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := addSQLiteProduct(conn, productID(0), load.Plenty); err != nil {
		return 0, err
	}
	events := make([]byte, rawBatch*len(eventPayload))
	start, batches := time.Now(), 0
	for time.Since(start) < d {
		if err := rawTransaction(conn, events); err != nil {
			return 0, err
		}
		batches++
	}
	return float64(batches*rawBatch) / time.Since(start).Seconds(), nil
}

func rawTransaction(conn *sqlite.Conn, events []byte) (err error) {
	end, err := sqlitex.ImmediateTransaction(conn)
	if err != nil {
		return err
	}
	defer end(&err)
	expires := time.Now().Add(time.Hour).UnixMilli()
	last, err := rawHolds(conn, expires)
	if err != nil {
		return err
	}
	return errors.Join( // a failure of one rolls all back
		execute(conn, `UPDATE stock SET available = available - ?, reserved = reserved + ? WHERE key = 1`, rawBatch, rawBatch),
		execute(conn, `INSERT INTO journal (batch_no, batch_id, last_seq, count, at, events, checksum)
VALUES (?, ?, ?, ?, ?, ?, ?)`, last, payload[:16], last, rawBatch, expires, events, payload[:32]),
		execute(conn, `UPDATE head SET batch_no = batch_no + 1, seq = seq + ?`, rawBatch),
	)
}

func execute(conn *sqlite.Conn, statement string, values ...any) error {
	return sqlitex.Execute(conn, statement, &sqlitex.ExecOptions{Args: values})
}

// rawHolds inserts a batch of holds of the first stock row, and returns the key of the last.
func rawHolds(conn *sqlite.Conn, expires int64) (last int64, err error) {
	hold, err := conn.Prepare(`INSERT INTO reservations (key, status, expires_at, data) VALUES (?, 1, ?, ?)`)
	if err != nil {
		return 0, err
	}
	index, err := conn.Prepare(`INSERT INTO holds (stock, expires_at, reservation) VALUES (1, ?, ?)`)
	if err != nil {
		return 0, err
	}
	for range rawBatch {
		last = nextKey()
		hold.BindInt64(1, last)
		hold.BindInt64(2, expires)
		hold.BindBytes(3, payload)
		index.BindInt64(1, expires)
		index.BindInt64(2, last)
		for _, stmt := range []*sqlite.Stmt{hold, index} {
			if err := step(stmt); err != nil {
				return 0, err
			}
		}
	}
	return last, nil
}

func step(stmt *sqlite.Stmt) error {
	if _, err := stmt.Step(); err != nil {
		return err
	}
	return stmt.Reset()
}
