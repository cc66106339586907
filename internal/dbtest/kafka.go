package dbtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// kafkaVersion is of the broker, which comes from Maven's repository and runs on Java 17 or later.
const kafkaVersion = "4.3.1"

// KafkaServer is a broker that nobody has to make topics on but the test. It listens for everybody, for users of
// [KafkaUser] and for the same through TLS.
type KafkaServer struct {
	*Server
	Open, Users, TLS string // host:port
	Certificate      string // file
}

// KafkaUser and KafkaPassword can log in to a broker, by PLAIN and by SCRAM-SHA-512.
const KafkaUser, KafkaPassword = "alice", "s3cr3t/@:?"

var sharedKafka = sync.OnceValues(func() (*KafkaServer, error) {
	s, err := newKafka()
	if err == nil {
		err = s.Start()
	}
	return s, err
})

// Kafka returns the one broker of this test binary, since starting one takes long. A test that ends it must start it
// again.
func Kafka(t testing.TB) *KafkaServer {
	t.Helper()
	s, err := sharedKafka()
	need(t, "kafka", err)
	return s
}

func newKafka() (*KafkaServer, error) {
	command, err := kafkaCommand()
	if err != nil {
		return nil, err
	}
	server, err := newServer("kafka")
	if err != nil {
		return nil, err
	}
	s := &KafkaServer{Server: server, Open: server.address()}
	properties, err := s.configure()
	if err != nil {
		return nil, err
	}
	if err := run(append(command, "kafka.tools.StorageTool", "format", "--standalone",
		"--cluster-id", "holdfasttestcluster000", "--config", properties, "--add-scram",
		fmt.Sprintf("SCRAM-SHA-512=[name=%s,password=%s]", KafkaUser, KafkaPassword))); err != nil {
		return nil, err
	}
	s.start = func() (*exec.Cmd, error) {
		return exec.Command(command[0], append(command[1:], "kafka.Kafka", properties)...), nil
	}
	s.ready = s.ping
	return s, nil
}

// kafkaCommand is what comes before the name and the arguments of one of the broker's programs.
func kafkaCommand() ([]string, error) {
	java, err := firstFound("java")
	if err != nil {
		return nil, errors.New("no Kafka: java was not found: install it, 17 or later, and mvn (Debian: apt-get install " +
			"openjdk-17-jre-headless maven)")
	}
	folder, err := installed("kafka-"+kafkaVersion, installKafka)
	if err != nil {
		return nil, fmt.Errorf("no Kafka: %w", err)
	}
	lib := filepath.Join(folder, "lib", "*")
	return slices.Clip([]string{java, "-Xmx512m", "-XX:+UseSerialGC", "-cp", lib}), nil
}

// installKafka copies the broker with all that it needs.
func installKafka(folder string) error {
	mvn, err := firstFound("mvn")
	if err != nil {
		return errors.New("mvn was not found: install it (Debian: apt-get install maven)")
	}
	project := filepath.Join(folder, "pom.xml")
	if err := os.WriteFile(project, []byte(`<project xmlns="http://maven.apache.org/POM/4.0.0">
	<modelVersion>4.0.0</modelVersion><groupId>test</groupId><artifactId>test</artifactId><version>1</version>
	<dependencies><dependency>
		<groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>`+kafkaVersion+`</version>
	</dependency></dependencies>
</project>`), 0o644); err != nil {
		return err
	}
	return run([]string{
		mvn, "--quiet", "--batch-mode", "--file", project, "dependency:copy-dependencies",
		"-DoutputDirectory=" + filepath.Join(folder, "lib"),
	})
}

// configure writes the properties of a broker that is its own controller.
func (s *KafkaServer) configure() (path string, err error) {
	certificate, key, err := Certificate(s.folder)
	if err != nil {
		return "", err
	}
	var store []byte // Kafka wants both in one file
	for _, file := range []string{key, certificate} {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		store = append(store, text...)
	}
	keystore := filepath.Join(s.folder, "keystore.pem")
	if err := os.WriteFile(keystore, store, 0o600); err != nil {
		return "", err
	}
	var others [3]string
	for i := range others {
		port, err := freePort()
		if err != nil {
			return "", err
		}
		others[i] = fmt.Sprint("127.0.0.1:", port)
	}
	s.Users, s.TLS, s.Certificate = others[0], others[1], certificate
	lines := []string{
		"process.roles=broker,controller",
		"node.id=1",
		"controller.quorum.bootstrap.servers=" + others[2],
		"controller.listener.names=CONTROLLER",
		fmt.Sprintf("listeners=OPEN://%s,USERS://%s,TLS://%s,CONTROLLER://%s", s.Open, s.Users, s.TLS, others[2]),
		"listener.security.protocol.map=OPEN:PLAINTEXT,USERS:SASL_PLAINTEXT,TLS:SASL_SSL,CONTROLLER:PLAINTEXT",
		"inter.broker.listener.name=OPEN",
		"ssl.keystore.type=PEM",
		"ssl.keystore.location=" + keystore,
		"log.dirs=" + filepath.Join(s.folder, "data"),
		"auto.create.topics.enable=true", // what a broker does on its own unless it is told otherwise
		"num.partitions=3",
		"offsets.topic.replication.factor=1",
		"group.initial.rebalance.delay.ms=0",
	}
	for _, listener := range []string{"users", "tls"} {
		prefix, security := "listener.name."+listener+".", "org.apache.kafka.common.security."
		lines = append(lines, prefix+"sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512",
			fmt.Sprintf("%splain.sasl.jaas.config=%splain.PlainLoginModule required user_%s=%q;", prefix, security, KafkaUser,
				KafkaPassword),
			prefix+"scram-sha-512.sasl.jaas.config="+security+"scram.ScramLoginModule required;")
	}
	path = filepath.Join(s.folder, "server.properties")
	return path, os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600)
}

func (s *KafkaServer) ping() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Open), kgo.RetryTimeout(time.Second))
	if err != nil {
		return err
	}
	defer client.Close()
	return client.Ping(ctx)
}
