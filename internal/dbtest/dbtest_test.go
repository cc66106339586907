package dbtest

import "testing"

func TestMain(m *testing.M) { Main(m) }

// TestServers says which servers the other tests have: make test shows what it skips.
func TestServers(t *testing.T) {
	t.Run("postgres", func(t *testing.T) { Postgres(t) })
	t.Run("mongodb", func(t *testing.T) { MongoDB(t) })
}
