package main

import (
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/relay"
	"github.com/holdfast/holdfast/internal/relay/amqp"
	"github.com/holdfast/holdfast/internal/relay/file"
	"github.com/holdfast/holdfast/internal/relay/kafka"
	"github.com/holdfast/holdfast/internal/relay/nats"
	"github.com/holdfast/holdfast/internal/relay/redis"
)

// sinkHelp is what --sink can be.
const sinkHelp = "nats://HOST/SUBJECT, kafka://HOST,HOST/TOPIC, amqp://HOST/VHOST?exchange=NAME, redis://HOST/STREAM, " +
	"file:PATH or stdout:"

// sink is a sink with the name under which its position is kept.
type sink struct {
	relay.Sink
	name string
}

// openSink makes the sink that a URL names. This is the one place that knows every kind. Nothing is connected yet.
func openSink(address string, stdout io.Writer) (*sink, error) {
	kind, rest, _ := strings.Cut(address, ":")
	switch kind {
	case "nats", "tls":
		return named(nats.New(address))
	case "redis", "rediss":
		return named(redis.New(address))
	case "kafka", "kafka+tls":
		return named(kafka.New(address))
	case "amqp", "amqps":
		return named(amqp.New(address))
	case "file":
		if rest == "" {
			return nil, fmt.Errorf("%w: the sink file: needs a path, for example file:events.ndjson", errUsage)
		}
		path, err := filepath.Abs(rest)
		if err != nil {
			return nil, err
		}
		return &sink{file.New(path), "file:" + path}, nil
	case "stdout":
		if rest != "" {
			return nil, fmt.Errorf("%w: the sink stdout: takes nothing after the colon", errUsage)
		}
		return &sink{file.Writer{To: stdout}, address}, nil
	default:
		return nil, fmt.Errorf("%w: no sink is called %q: use %s", errUsage, kind+":", sinkHelp)
	}
}

// named gives a sink its own name.
func named[S interface {
	relay.Sink
	Name() string
}](s S, err error) (*sink, error) {
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	return &sink{s, s.Name()}, nil
}

// openSinks makes the sinks of a command line, each of which must be another.
func openSinks(addresses []string, stdout io.Writer) (list []*sink, err error) {
	names := map[string]bool{}
	for _, address := range addresses {
		s, err := openSink(address, stdout)
		if err != nil {
			return nil, err
		}
		if names[s.name] {
			return nil, fmt.Errorf("%w: the sink %s is given twice", errUsage, s.name)
		}
		if len(s.name) > inventory.MaxSinkNameBytes {
			return nil, fmt.Errorf("%w: the URL of a sink has at most %d characters", errUsage, inventory.MaxSinkNameBytes)
		}
		names[s.name] = true
		list = append(list, s)
	}
	return list, nil
}

// reopen begins new files where files were moved away.
func reopen(sinks []*sink, log *slog.Logger) {
	for _, s := range sinks {
		if f, is := s.Sink.(interface{ Reopen() error }); is {
			if err := f.Reopen(); err != nil {
				log.Warn("closing the file of a sink failed", "sink", s.name, "error", err)
			}
		}
	}
}
