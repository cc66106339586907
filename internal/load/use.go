package load

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// ServerUse is what the server spent on a run, by its own metrics.
type ServerUse struct {
	Cores          float64 `json:"cores"`          // processors that it kept busy
	ResidentBytes  int64   `json:"residentBytes"`  // at the end
	BatchCommands  float64 `json:"batchCommands"`  // commands that shared a commit, in the mean
	CommitMicros   float64 `json:"commitMicros"`   // time of a commit, in the mean
	CommitsASecond float64 `json:"commitsASecond"` //
}

// use are the metrics of a server at one moment. A server without metrics has none.
type use struct{ cpu, resident, commands, batches, commitSeconds float64 }

func (u use) since(before use, seconds float64) ServerUse {
	s := ServerUse{Cores: (u.cpu - before.cpu) / seconds, ResidentBytes: int64(u.resident)}
	if batches := u.batches - before.batches; batches > 0 {
		s.BatchCommands = (u.commands - before.commands) / batches
		s.CommitMicros = (u.commitSeconds - before.commitSeconds) / batches * 1e6
		s.CommitsASecond = batches / seconds
	}
	return s
}

func readUse(ctx context.Context, host string) (u use, err error) {
	return u, readMetrics(ctx, host, map[string]*float64{
		"process_cpu_seconds_total":     &u.cpu,
		"process_resident_memory_bytes": &u.resident,
		"holdfast_batch_commands_sum":   &u.commands,
		"holdfast_batch_commands_count": &u.batches,
		"holdfast_commit_seconds_sum":   &u.commitSeconds,
	})
}

// Metric reads one metric of a server; 0 if it has no such metric.
func Metric(ctx context.Context, host, name string) (value float64, err error) {
	err = readMetrics(ctx, host, map[string]*float64{name: &value})
	return value, err
}

// readMetrics reads those metrics of a server that are asked for.
func readMetrics(ctx context.Context, host string, values map[string]*float64) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/metrics", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("no server answers at %s: %w", host, err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		name, text, _ := strings.Cut(lines.Text(), " ")
		if value := values[name]; value != nil {
			*value, _ = strconv.ParseFloat(text, 64)
		}
	}
	return lines.Err()
}
