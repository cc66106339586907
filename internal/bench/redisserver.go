package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisServer is a Redis server of our own, on a free port of the loopback, with its data in a folder.
type RedisServer struct {
	URL     string
	process *exec.Cmd
	ended   chan error
	output  bytes.Buffer
}

// Settings of appendfsync. With always, Redis flushes before it answers; with everysec it may lose the last second.
const (
	FsyncAlways   = "always"
	FsyncEverySec = "everysec"
)

// errNoRedis says what to do about it.
const errNoRedis = Missing("redis-server is not on the PATH: install it (Debian: apt-get install redis-server)")

const (
	redisStartTimeout = 10 * time.Second
	redisStopTimeout  = 10 * time.Second
	redisAskInterval  = 20 * time.Millisecond
)

// StartRedis starts the redis-server that is on the PATH, with an append-only file and all else as Redis has it.
func StartRedis(ctx context.Context, folder, appendfsync string) (*RedisServer, error) {
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errNoRedis
	}
	data := filepath.Join(folder, "redis-"+appendfsync+"-"+strconv.FormatInt(nextKey(), 36))
	if err := os.Mkdir(data, 0o700); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &RedisServer{URL: "redis://127.0.0.1:" + port, ended: make(chan error, 1)}
	s.process = exec.Command(binary, "--bind", "127.0.0.1", "--port", port, "--dir", data, "--save", "",
		"--appendonly", "yes", "--appendfsync", appendfsync)
	s.process.Stdout, s.process.Stderr = &s.output, &s.output
	if err := s.process.Start(); err != nil {
		return nil, fmt.Errorf("starting redis-server: %w", err)
	}
	go func() { s.ended <- s.process.Wait() }()
	if err := s.await(ctx); err != nil {
		return nil, fmt.Errorf("starting redis-server: %w", errors.Join(err, s.Stop()))
	}
	return s, nil
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// await asks until the server answers.
func (s *RedisServer) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, redisStartTimeout)
	defer cancel()
	client := redis.NewClient(&redis.Options{Addr: strings.TrimPrefix(s.URL, "redis://"), MaxRetries: -1})
	defer client.Close()
	again := time.NewTicker(redisAskInterval)
	defer again.Stop()
	for client.Ping(ctx).Err() != nil {
		select {
		case err := <-s.ended:
			s.ended <- err
			return fmt.Errorf("it ended: %s", bytes.TrimSpace(s.output.Bytes()))
		case <-ctx.Done():
			return ctx.Err()
		case <-again.C:
		}
	}
	return nil
}

// Stop ends the server, by force if it takes too long.
func (s *RedisServer) Stop() error {
	_ = s.process.Process.Signal(os.Interrupt) // it may have ended
	select {
	case err := <-s.ended:
		s.ended <- err
		return nil
	case <-time.After(redisStopTimeout):
		return s.process.Process.Kill()
	}
}
