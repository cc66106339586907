package dbtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// RabbitMQServer is a broker that listens with TLS and without. Its user is [RabbitMQUser].
type RabbitMQServer struct {
	*Server
	Open, TLS   string // host:port
	Certificate string // file
}

// RabbitMQUser and RabbitMQPassword can do everything in the virtual host "/".
const RabbitMQUser, RabbitMQPassword = "alice", "s3cr3t/@:?"

var sharedRabbitMQ = sync.OnceValues(func() (*RabbitMQServer, error) {
	s, err := newRabbitMQ()
	if err == nil {
		err = s.Start()
	}
	return s, err
})

// RabbitMQ returns the one broker of this test binary. A test that ends it must start it again.
func RabbitMQ(t testing.TB) *RabbitMQServer {
	t.Helper()
	s, err := sharedRabbitMQ()
	need(t, "rabbitmq", err)
	return s
}

// newRabbitMQ makes a broker with everything in a folder of its own, the port mapper of Erlang included. It runs as
// whoever runs the tests: the scripts on the path insist on the user rabbitmq, those below it do not.
func newRabbitMQ() (*RabbitMQServer, error) {
	binary, err := firstFound("/usr/lib/rabbitmq/bin/rabbitmq-server", "/opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server")
	if err != nil {
		return nil, errors.New("no RabbitMQ: rabbitmq-server was not found: install it (Debian: apt-get install " +
			"rabbitmq-server)")
	}
	server, err := newServer("rabbitmq")
	if err != nil {
		return nil, err
	}
	s := &RabbitMQServer{Server: server, Open: server.address()}
	environment, mapper, err := s.configure()
	if err != nil {
		return nil, err
	}
	s.start = func() (*exec.Cmd, error) {
		c := exec.Command("sh", "-c", `epmd -address 127.0.0.1 -port "$1" & exec "$2"`, "sh", mapper, binary)
		c.Dir, c.Env = s.folder, environment
		return c, nil
	}
	s.ready = s.ping
	return s, nil
}

// configure writes the files of a broker, and returns its environment and the port of its port mapper.
func (s *RabbitMQServer) configure() (environment []string, mapper string, err error) {
	var ports [3]int
	for i := range ports {
		if ports[i], err = freePort(); err != nil {
			return nil, "", err
		}
	}
	certificate, key, err := Certificate(s.folder)
	if err != nil {
		return nil, "", err
	}
	s.TLS, s.Certificate, mapper = fmt.Sprint("127.0.0.1:", ports[0]), certificate, fmt.Sprint(ports[1])
	config, plugins := filepath.Join(s.folder, "rabbitmq.conf"), filepath.Join(s.folder, "plugins")
	lines := []string{
		"listeners.tcp.1 = " + s.Open,
		"listeners.ssl.1 = " + s.TLS,
		"ssl_options.certfile = " + certificate,
		"ssl_options.keyfile = " + key,
		"ssl_options.verify = verify_none",
		"default_user = " + RabbitMQUser,
		"default_pass = " + RabbitMQPassword,
		"max_message_size = 100000",
		"log.console = true",
		"log.file = false",
	}
	err = errors.Join(os.WriteFile(config, []byte(strings.Join(lines, "\n")+"\n"), 0o600),
		os.WriteFile(plugins, []byte("[]."), 0o600))
	return append(os.Environ(),
		"HOME="+s.folder, // has the cookie
		"RABBITMQ_NODENAME=holdfast@localhost",
		"RABBITMQ_CONF_ENV_FILE="+filepath.Join(s.folder, "none"),
		"RABBITMQ_CONFIG_FILE="+config,
		"RABBITMQ_ENABLED_PLUGINS_FILE="+plugins,
		"RABBITMQ_MNESIA_BASE="+filepath.Join(s.folder, "data"),
		"RABBITMQ_LOG_BASE="+filepath.Join(s.folder, "logs"),
		"RABBITMQ_GENERATED_CONFIG_DIR="+filepath.Join(s.folder, "generated"),
		"RABBITMQ_PID_FILE="+filepath.Join(s.folder, "pid"),
		"RABBITMQ_LOGS=-",
		fmt.Sprint("RABBITMQ_DIST_PORT=", ports[2]),
		"ERL_EPMD_PORT="+mapper,
		"ERL_EPMD_ADDRESS=127.0.0.1",
		"RUNNING_UNDER_SYSTEMD=true", // the process is the broker then, and not a script that waits for it
	), mapper, err
}

func (s *RabbitMQServer) ping() error {
	conn, err := amqp.DialConfig("amqp://"+s.Open, amqp.Config{
		SASL: []amqp.Authentication{&amqp.PlainAuth{Username: RabbitMQUser, Password: RabbitMQPassword}},
		Dial: amqp.DefaultDial(2 * time.Second),
	})
	if err != nil {
		return err
	}
	return conn.Close()
}
