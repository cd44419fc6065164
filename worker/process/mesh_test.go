package process

import (
	"strings"
	"testing"
	"time"

	"loco/worker/config"
)

// Every preset has times that the mesh accepts, and those for machines far apart differ
// from those of one machine in each.
func TestMeshTimesOfPresets(t *testing.T) {
	for _, p := range config.Presets() {
		cfg, err := config.Preset(p.Name)
		if err != nil {
			t.Fatal(err)
		}
		c := meshTimes(cfg.Mesh)
		c.RunID = strings.Repeat("0", 16)
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
		if p.Name == config.Default().Run.Name {
			continue
		}
		near := meshTimes(config.Default().Mesh)
		for name, times := range map[string][2]time.Duration{
			"heartbeat": {c.Heartbeat, near.Heartbeat}, "probe every": {c.ProbeEvery, near.ProbeEvery},
			"suspect after": {c.SuspectAfter, near.SuspectAfter}, "dead after": {c.DeadAfter, near.DeadAfter},
			"dead after refused": {c.DeadAfterRefused, near.DeadAfterRefused}, "forget": {c.Forget, near.Forget},
			"dial timeout": {c.DialTimeout, near.DialTimeout}, "redial max": {c.RedialMax, near.RedialMax},
			"join timeout": {c.JoinTimeout, near.JoinTimeout},
		} {
			if times[0] <= times[1] {
				t.Errorf("%s: %s is %v, on one machine %v", p.Name, name, times[0], times[1])
			}
		}
	}
}
