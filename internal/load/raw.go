package load

import (
	"errors"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// rawBatch is how many holds the raw loop writes in a transaction: as many as a full batch of the door has.
const rawBatch = 1024

// RawLoop writes the rows that holds on one product are made of, in batches of 1,024, by a loop that decides nothing: what the engine
// could do at best. The file is that of a store with the product p0, which nobody else has open.
func RawLoop(path string, d time.Duration) (perSecond float64, err error) {
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite, sqlite.OpenWAL)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	for _, pragma := range []string{"PRAGMA synchronous = FULL", "PRAGMA fullfsync = ON", "PRAGMA cache_size = -32768", "PRAGMA wal_autocheckpoint = 4096"} {
		if err := sqlitex.Execute(conn, pragma, nil); err != nil {
			return 0, err
		}
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
	hold, err := conn.Prepare("INSERT INTO reservations VALUES (?, 1, ?, NULL, ?)")
	if err != nil {
		return err
	}
	index, err := conn.Prepare("INSERT INTO holds VALUES (1, ?, ?)")
	if err != nil {
		return err
	}
	last := int64(0)
	for range rawBatch {
		last = nextKey()
		hold.BindInt64(1, last)
		hold.BindInt64(2, expires)
		hold.BindBytes(3, payload)
		index.BindInt64(1, expires)
		index.BindInt64(2, last)
		for _, stmt := range []*sqlite.Stmt{hold, index} {
			if _, err := stmt.Step(); err != nil {
				return err
			}
			if err := stmt.Reset(); err != nil {
				return err
			}
		}
	}
	if err := sqlitex.Execute(conn, "UPDATE stock SET available = available - ?, reserved = reserved + ? WHERE key = 1", &sqlitex.ExecOptions{Args: []any{rawBatch, rawBatch}}); err != nil {
		return err
	}
	if err := sqlitex.Execute(conn, "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?)", &sqlitex.ExecOptions{Args: []any{last, payload[:16], last, rawBatch, expires, events, payload[:32]}}); err != nil {
		return err
	}
	return sqlitex.Execute(conn, "UPDATE head SET batch_no = batch_no + 1, seq = seq + ?", &sqlitex.ExecOptions{Args: []any{rawBatch}})
}
