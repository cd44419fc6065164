package process

import (
	"errors"
	"strings"
	"testing"

	"loco/checkpoint"
	"loco/mesh"
	"loco/mesh/sim"
	"loco/worker"
	"loco/worker/config"
)

// company is what has to be set beside a key at one of its ends, where the default
// contradicts it.
var company = map[string][]string{
	"run.rounds=1":             {"inner.warmup=0", "inner.decay=0"},
	"run.rounds=10000000":      {"sync.inner_steps=1"},
	"sync.inner_steps=1":       {"inner.warmup=0", "inner.decay=0"},
	"sync.inner_steps=1000000": {"run.rounds=1"},
	"sync.deadline=100ms":      {"sync.grace=50ms"},
	"sync.grace=168h":          {"sync.deadline=168h"},
	"mesh.heartbeat=1h":        {"mesh.suspect_after=2h", "mesh.dead_after=3h"},
	"mesh.suspect_min=24h":     {"mesh.suspect_after=24h", "mesh.dead_after=25h"},
	"mesh.suspect_after=100ms": {"mesh.heartbeat=50ms", "mesh.suspect_min=0s"},
	"mesh.suspect_after=24h":   {"mesh.dead_after=25h"},
	"mesh.dead_min=168h":       {"mesh.dead_after=168h"},
	"mesh.dead_after=200ms":    {"mesh.heartbeat=50ms", "mesh.suspect_min=0s", "mesh.suspect_after=100ms", "mesh.dead_min=0s"},
	"inner.batch=1":            {"inner.micro_batch=0"},
	"sync.slow_cycle=1000":     {"sync.strategy=diloco"},
	"inner.warmup=1000000000":  {"run.rounds=10000000", "sync.inner_steps=1000", "run.workers=1", "inner.batch=1"},
	"inner.decay=1000000000":   {"run.rounds=10000000", "sync.inner_steps=1000", "run.workers=1", "inner.batch=1", "inner.schedule=wsd"},
}

// What the configuration allows, a worker starts with: no package refuses what a user wrote
// in words that do not name the key.
func TestWhatIsAllowedIsNotRefusedLater(t *testing.T) {
	net := sim.New(1)
	t.Cleanup(net.Close)
	tried := map[string]int{}
	for _, k := range config.Keys() {
		for _, end := range k.Ends() {
			set := k.Name + "=" + end
			cfg, err := config.Load("", append([]string{set}, company[set]...))
			var refused *config.Error
			switch {
			case errors.As(err, &refused):
				if _, own := company[set]; k.Table == "sync" || k.Table == "mesh" || k.Table == "checkpoint" || own {
					t.Errorf("%s: %v; name its company in this test", set, err)
				}
				continue
			case err != nil:
				t.Fatal(err)
			}
			tried[k.Table]++
			if err := startsWith(t, net.Peer(0), &cfg); err != nil {
				t.Errorf("%s passes the check of the configuration, and then: %v", set, err)
			}
		}
	}
	t.Logf("ends tried, by table: %v", tried)
}

// startsWith makes what a worker makes of a configuration, but for what takes memory: the last
// worker's, whose number is the highest.
func startsWith(t *testing.T, m mesh.Mesh, cfg *config.Config) error {
	spec, err := NewSpec(cfg, t.TempDir())
	if err != nil {
		return err
	}
	last := cfg.Run.Workers - 1
	times := meshTimes(cfg.Mesh)
	times.RunID, times.Worker, times.Listen, times.Bootstrap = strings.Repeat("0", 16), last, cfg.Mesh.Listen, cfg.Mesh.Join
	if err := times.Validate(); err != nil {
		return err
	}
	w, err := worker.New(spec.workerConfig(last, 0), m, idle{}, worker.Hooks{})
	if err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	writer, err := checkpoint.New(spec.checkpointConfig(last))
	if err != nil {
		return err
	}
	return writer.Close(t.Context())
}

// idle is a learner of one parameter that learns nothing.
type idle struct{}

func (idle) Err() error                            { return nil }
func (idle) Parameters() int                       { return 1 }
func (idle) Gradient(uint64) (float64, int, error) { return 0, 1, nil }
func (idle) Update(_, _ uint64) float64            { return 0 }
func (idle) Evaluate() (float64, error)            { return 0, nil }
func (idle) ReadGradient([]float32)                {}
func (idle) WriteGradient([]float32)               {}
func (idle) ReadParams([]float32)                  {}
func (idle) WriteParams([]float32)                 {}
func (idle) ReadMoments(_, _ []float32)            {}
func (idle) WriteMoments(_, _ []float32)           {}
