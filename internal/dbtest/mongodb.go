package dbtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// The MongoDB server itself is in no package registry. SecantusDB speaks its protocol, with transactions on WiredTiger.
const secantus = "SecantusDB==0.7.0b3"

var sharedMongoDB = sync.OnceValues(func() (string, error) {
	if address := os.Getenv("HOLDFAST_TEST_MONGODB"); address != "" {
		return address, nil
	}
	s, err := newMongoDB()
	if err == nil {
		err = s.Start()
	}
	if err != nil {
		return "", fmt.Errorf("no MongoDB: %w: python3 with venv and pip installs one by itself (Debian: apt-get install "+
			"python3-venv), or set HOLDFAST_TEST_MONGODB", err)
	}
	return mongoURL(s.Port), nil
})

// MongoDB returns the URL of an empty database on the shared server.
func MongoDB(t testing.TB) string {
	t.Helper()
	address, err := sharedMongoDB()
	need(t, "mongodb", err)
	name := unique()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		client, err := mongo.Connect(options.Client().ApplyURI(address))
		if err != nil {
			return
		}
		_ = client.Database(name).Drop(ctx) // the test may have stopped the server
		_ = client.Disconnect(ctx)
	})
	return withDatabase(address, name)
}

// RealMongoDB returns the URL of an empty database on the replica set or sharded cluster that HOLDFAST_TEST_MONGODB
// names. Without one it skips the test, and says so: the server that tests start by themselves has neither elections
// nor members that lag.
func RealMongoDB(t testing.TB) string {
	t.Helper()
	if os.Getenv("HOLDFAST_TEST_MONGODB") == "" {
		t.Skip("SKIPPED: it needs a real MongoDB: name a replica set of three members, or two routers, with all their " +
			"hosts in HOLDFAST_TEST_MONGODB (started with --setParameter enableTestCommands=1)")
	}
	return MongoDB(t)
}

// MongoDBHosts returns URLs that each connect to one of the hosts of a URL directly: members of a replica set or
// routers.
func MongoDBHosts(t testing.TB, address string) (urls []string) {
	t.Helper()
	scheme, rest, _ := strings.Cut(address, "://")
	hosts, path, _ := strings.Cut(rest, "/")
	user := ""
	if at := strings.LastIndex(hosts, "@"); at >= 0 {
		user, hosts = hosts[:at+1], hosts[at+1:]
	}
	path, query, _ := strings.Cut(path, "?")
	options, err := url.ParseQuery(query)
	if err != nil {
		t.Fatalf("HOLDFAST_TEST_MONGODB: %v", err)
	}
	options.Del("replicaSet")
	options.Set("directConnection", "true")
	for _, host := range strings.Split(hosts, ",") {
		urls = append(urls, scheme+"://"+user+host+"/"+path+"?"+options.Encode())
	}
	return urls
}

func withDatabase(address, name string) string {
	host, query, found := strings.Cut(address, "?")
	address = strings.TrimSuffix(host, "/") + "/" + name
	if found {
		address += "?" + query
	}
	return address
}

// OwnMongoDB starts a server for this test alone, to be killed and started again, and returns the URL of a database.
func OwnMongoDB(t testing.TB) (*Server, string) {
	t.Helper()
	s, err := newMongoDB()
	if err == nil {
		err = s.Start()
	}
	need(t, "mongodb", err)
	return s, withDatabase(mongoURL(s.Port), unique())
}

// mongoURL asks for a direct connection. Otherwise the driver would learn the address of the server and go past a
// proxy.
func mongoURL(port int) string {
	return fmt.Sprintf("mongodb://127.0.0.1:%d/?directConnection=true", port)
}

func newMongoDB() (*Server, error) {
	binary, err := installSecantus()
	if err != nil {
		return nil, err
	}
	s, err := newServer("mongodb")
	if err != nil {
		return nil, err
	}
	s.start = func() (*exec.Cmd, error) {
		return exec.Command(binary, "--host", "127.0.0.1", "--port", strconv.Itoa(s.Port), "--storage-path",
			filepath.Join(s.folder, "data"),
			"--sync-on-commit", "--enable-test-commands", "--log-level", "ERROR"), nil
	}
	s.ready = func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		client, err := mongo.Connect(options.Client().ApplyURI(mongoURL(s.Port)))
		if err != nil {
			return err
		}
		defer func() { _ = client.Disconnect(ctx) }()
		return client.Database("admin").RunCommand(ctx, bson.D{{Key: "ping", Value: 1}}).Err()
	}
	return s, nil
}

// installSecantus makes a virtual environment under the user's cache, once for all test binaries.
func installSecantus() (binary string, err error) {
	folder, err := installed(secantus, func(folder string) error {
		python, err := firstFound("python3")
		if err != nil {
			return errors.New("python3 was not found")
		}
		venv := filepath.Join(folder, "venv")
		return run([]string{python, "-m", "venv", venv},
			[]string{filepath.Join(venv, "bin", "pip"), "install", "--quiet", "--disable-pip-version-check", secantus})
	})
	return filepath.Join(folder, "venv", "bin", "secantusd-py"), err
}

// FailPoint makes the server of a URL fail commands, as the fail point failCommand of MongoDB does. The mode "off" ends
// that.
func FailPoint(t testing.TB, address string, mode any, data bson.D) {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(address))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Disconnect(context.Background()) }()
	command := bson.D{{Key: "configureFailPoint", Value: "failCommand"}, {Key: "mode", Value: mode}}
	if data != nil {
		command = append(command, bson.E{Key: "data", Value: data})
	}
	err = client.Database("admin").RunCommand(context.Background(), command).Err()
	if err != nil {
		t.Fatalf("configureFailPoint: %v", err)
	}
}
