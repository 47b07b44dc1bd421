package deploy_test

import (
	"slices"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// project returns the compose file as Docker reads it: unknown keys and wrong types are errors.
func project(t *testing.T) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{"../compose/compose.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// TestCompose checks that no service can do more than it must, and that the gate stops before the API.
func TestCompose(t *testing.T) {
	services := project(t).Services
	if len(services) != 2 {
		t.Errorf("got %d services, want gate and api", len(services))
	}
	for name, s := range services {
		if !s.ReadOnly || s.Privileged || !slices.Equal(s.CapDrop, []string{"ALL"}) || len(s.CapAdd) > 0 {
			t.Errorf("%s: read only %t, privileged %t, drops %q, adds %q", name, s.ReadOnly, s.Privileged, s.CapDrop, s.CapAdd)
		}
		if !slices.Contains(s.SecurityOpt, "no-new-privileges:true") || s.User == "" || s.PidsLimit == 0 || len(s.Tmpfs) == 0 {
			t.Errorf("%s: %q as user %q, %d processes, tmpfs %q", name, s.SecurityOpt, s.User, s.PidsLimit, s.Tmpfs)
		}
		for _, v := range s.Volumes {
			if v.ReadOnly == (v.Target == "/etc/tallygate/state") || v.Bind == nil || bool(v.Bind.CreateHostPath) {
				t.Errorf("%s: volume %+v, want all but the state read only, and none that Docker creates for root", name, v)
			}
		}
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" || p.Published != "8443" && p.Published != "8444" {
				t.Errorf("%s publishes %+v", name, p)
			}
		}
	}
	gate := services["gate"]
	if gate.NetworkMode != "service:api" || gate.DependsOn["api"].Condition != types.ServiceConditionStarted {
		t.Errorf("the gate has the network %q and depends on %+v, want the API's", gate.NetworkMode, gate.DependsOn)
	}
	if gate.HealthCheck == nil || gate.MemLimit == 0 || gate.Build == nil || gate.Build.Context == "" {
		t.Errorf("the gate has the health check %+v, the limit %d and the build %+v", gate.HealthCheck, gate.MemLimit, gate.Build)
	}
}
