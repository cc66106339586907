package dbtest

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// standbyName is the name by which a standby shows itself to its primary.
const standbyName = "standby"

// PostgresPair is a primary and its hot standby, which streams from it.
type PostgresPair struct {
	primary, standby *cluster
}

// NewPostgresPair starts a pair for this test alone. The primary waits for nobody until [PostgresPair.Synchronous].
func NewPostgresPair(t testing.TB) *PostgresPair {
	t.Helper()
	p, err := newPair()
	need(t, "postgres", err)
	return p
}

func newPair() (p *PostgresPair, err error) {
	p = &PostgresPair{}
	if p.primary, err = newCluster(); err != nil {
		return nil, err
	}
	if p.standby, err = newCluster(); err != nil {
		return nil, err
	}
	if err := p.primary.initialize(); err != nil {
		return nil, err
	}
	if err := p.primary.Start(); err != nil {
		return nil, err
	}
	return p, p.copyPrimary()
}

// copyPrimary makes the standby a copy of the primary and starts it.
func (p *PostgresPair) copyPrimary() error {
	if err := os.RemoveAll(p.standby.data); err != nil {
		return err
	}
	source := fmt.Sprintf("host=127.0.0.1 port=%d user=postgres sslmode=disable", p.primary.Port)
	if err := p.standby.run("pg_basebackup", "-D", p.standby.data, "-d", source, "-R", "-c", "fast", "-X", "stream",
		"--no-sync"); err != nil {
		return err
	}
	return p.standby.Start()
}

// URL names both servers, the standby first: whoever connects has to find the primary.
func (p *PostgresPair) URL() string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d,127.0.0.1:%d/postgres?sslmode=disable", p.standby.Port,
		p.primary.Port)
}

// Primary is the server that writes.
func (p *PostgresPair) Primary() (s *Server, url string) {
	return p.primary.Server, postgresURL(p.primary.Port)
}

// Standby is the server that follows.
func (p *PostgresPair) Standby() (s *Server, url string) {
	return p.standby.Server, postgresURL(p.standby.Port)
}

// Synchronous makes the commits of the primary wait for the standby, and waits until that follows.
func (p *PostgresPair) Synchronous() error {
	if err := execute(p.primary.Port, "ALTER SYSTEM SET synchronous_standby_names = '"+standbyName+"'",
		"SELECT pg_reload_conf()"); err != nil {
		return err
	}
	return p.await(p.primary.Port, "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
}

// KillStandby kills the standby and waits until the primary sends to nobody: the process that receives outlives the
// server for a moment.
func (p *PostgresPair) KillStandby() error {
	p.standby.Kill()
	return p.await(p.primary.Port, "SELECT count(*) = 0 FROM pg_stat_replication")
}

// Asynchronous lets the commits of the primary wait for nobody.
func (p *PostgresPair) Asynchronous() error { return p.Alone(p.primary.Server) }

// Alone lets the commits of a server wait for nobody.
func (p *PostgresPair) Alone(s *Server) error {
	return execute(s.Port, "ALTER SYSTEM SET synchronous_standby_names = ''", "SELECT pg_reload_conf()")
}

// Promote makes the standby the primary of a pair without a standby, which waits for nobody. The old primary should be
// dead.
func (p *PostgresPair) Promote() error {
	if err := execute(p.standby.Port, "ALTER SYSTEM SET synchronous_standby_names = ''", "SELECT pg_reload_conf()",
		"SELECT pg_promote()"); err != nil {
		return err
	}
	p.primary, p.standby = p.standby, p.primary
	return nil
}

// Rebuild makes the old primary, which must have ended, the standby of the new one.
func (p *PostgresPair) Rebuild() error { return p.copyPrimary() }

func (p *PostgresPair) await(port int, condition string) error {
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(20 * time.Millisecond) {
		holds, err := ask(port, condition)
		if err != nil || holds {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("port %d: in vain: %s", port, condition)
		}
	}
}

func ask(port int, condition string) (holds bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, postgresURL(port))
	if err != nil {
		return false, err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, condition).Scan(&holds)
	return holds, err
}

func execute(port int, statements ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, postgresURL(port))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}
