package main

import (
	"os"
	"testing"

	"gopkg.in/yaml.v3"
)

// TestDeployOrder: in the compose file of MongoDB, everything waits for something that there is and that says when it
// is ready: by its health check, or by ending.
func TestDeployOrder(t *testing.T) {
	content, err := os.ReadFile("../../deploy/mongodb.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var compose struct {
		Services map[string]struct {
			Healthcheck *struct{ Test []string }
			Restart     string
			DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
		}
	}
	if err := yaml.Unmarshal(content, &compose); err != nil {
		t.Fatal(err)
	}
	members := 0
	for name, service := range compose.Services {
		if service.Healthcheck != nil {
			members++
		}
		if service.Healthcheck == nil && len(service.DependsOn) == 0 {
			t.Errorf("%s waits for nothing and has no health check", name)
		}
		for other, on := range service.DependsOn {
			waited, exists := compose.Services[other]
			switch {
			case !exists:
				t.Errorf("%s waits for %s, which is not there", name, other)
			case on.Condition == "service_healthy" && waited.Healthcheck == nil:
				t.Errorf("%s waits for the health of %s, which has no check", name, other)
			case on.Condition == "service_completed_successfully" && waited.Restart == "unless-stopped":
				t.Errorf("%s waits for the end of %s, which is started again", name, other)
			case on.Condition != "service_healthy" && on.Condition != "service_completed_successfully":
				t.Errorf("%s does not wait until %s is ready", name, other)
			}
		}
	}
	if members != 3 {
		t.Errorf("%d members", members)
	}
}
