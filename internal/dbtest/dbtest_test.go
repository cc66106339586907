package dbtest

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestMain(m *testing.M) { Main(m) }

// TestServers says which servers the other tests have: make test shows what it skips.
func TestServers(t *testing.T) {
	t.Run("postgres", func(t *testing.T) { Postgres(t) })
	t.Run("mongodb", func(t *testing.T) { MongoDB(t) })
	t.Run("pgbouncer", func(t *testing.T) {
		server, _ := OwnPostgres(t)
		PgBouncer(t, server)
	})
	t.Run("nats", func(t *testing.T) { OwnNATS(t) })
	t.Run("redis", func(t *testing.T) { OwnRedis(t) })
	t.Run("kafka", func(t *testing.T) { // this and the next one are not started, which takes long
		_, err := kafkaCommand()
		need(t, "kafka", err)
	})
	t.Run("rabbitmq", func(t *testing.T) {
		_, err := newRabbitMQ()
		need(t, "rabbitmq", err)
	})
}

// TestRestart: PostgreSQL does not start while a child of one that was killed lingers; it is started again until it
// does.
func TestRestart(t *testing.T) {
	server, address := OwnPostgres(t)
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	child := int(conn.PgConn().PID())
	if err := syscall.Kill(child, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(child, syscall.SIGKILL) }() // if it is still there
	server.Kill()
	started := make(chan error, 1)
	go func() { started <- server.Start() }()
	for deadline := time.Now().Add(startTimeout); !strings.Contains(server.tail(),
		"pre-existing shared memory block"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it was not refused: %s", server.tail())
		}
	}
	_ = syscall.Kill(child, syscall.SIGKILL)
	if err := <-started; err != nil {
		t.Fatal(err)
	}
}
