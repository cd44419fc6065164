package worker

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"loco/gossip"
	"loco/gossip/codec"
	"loco/mesh"
	"loco/trainer"
	"loco/trainer/strategy"
)

// toy is a learner whose loss is ½‖θ − its worker's number‖², a token a batch.
type toy struct {
	theta, grad, m, v []float32
	worker            float32
}

func newToy(worker int) *toy {
	return &toy{make([]float32, 300), make([]float32, 300), make([]float32, 300), make([]float32, 300), float32(worker)}
}

func (t *toy) Err() error      { return nil }
func (t *toy) Parameters() int { return len(t.theta) }
func (t *toy) Gradient(uint64) (loss float64, tokens int, err error) {
	for i, x := range t.theta {
		t.grad[i] = x - t.worker - 1
		loss += float64(t.grad[i] * t.grad[i] / 2)
	}
	return loss, 10, nil
}
func (t *toy) Update(_, _ uint64) (norm float64) {
	for i, g := range t.grad {
		norm += float64(g * g)
		t.theta[i] -= 0.1 * g
		t.v[i]++
	}
	return math.Sqrt(norm)
}
func (t *toy) Evaluate() (float64, error)  { return 1, nil }
func (t *toy) ReadGradient(x []float32)    { copy(x, t.grad) }
func (t *toy) WriteGradient(x []float32)   { copy(t.grad, x) }
func (t *toy) ReadParams(x []float32)      { copy(x, t.theta) }
func (t *toy) WriteParams(x []float32)     { copy(t.theta, x) }
func (t *toy) ReadMoments(m, v []float32)  { copy(m, t.m); copy(v, t.v) }
func (t *toy) WriteMoments(m, v []float32) { copy(t.m, m); copy(t.v, v) }

// testConfig is a run of two workers and five rounds of 40 steps.
func testConfig(number int) Config {
	format := codec.FP32.Format()
	return Config{
		Number: number, Workers: 2, Heartbeat: time.Second, JoinTimeout: 30 * time.Second,
		Trainer: trainer.Config{Strategy: "diloco", Rounds: 5, InnerSteps: 40, Options: strategy.Options{OuterLR: 0.7, OuterMomentum: 0.5, Beta: 0.7, Gamma: 0.7}, Format: format, StateFormat: format},
		Gossip:  gossip.Config{Codec: codec.FP32, Waits: gossip.Waits{Deadline: 20 * time.Second, Grace: 5 * time.Second}},
	}
}

// stage is a mesh whose members a test sets. Nobody can be reached.
type stage struct {
	mu      sync.Mutex
	members []mesh.Member
	changed chan struct{}
	said    []mesh.Status
}

const self mesh.ID = "self"

func newStage(others ...mesh.Member) *stage {
	s := &stage{changed: make(chan struct{})}
	s.set(others...)
	return s
}

// set replaces the other members.
func (s *stage) set(others ...mesh.Member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members = append([]mesh.Member{{ID: self}}, others...)
	if len(s.said) > 0 {
		s.members[0].Status = s.said[len(s.said)-1]
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *stage) Self() mesh.ID { return self }
func (s *stage) View() ([]mesh.Member, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]mesh.Member(nil), s.members...), s.changed
}
func (s *stage) Announce(now mesh.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said, now)
	s.members[0].Status = now
	s.members[0].State = mesh.Alive
}
func (s *stage) Open(context.Context, mesh.ID, string) (mesh.Stream, error) {
	return nil, errors.New("nobody can be reached")
}
func (s *stage) Handle(string, func(mesh.ID, mesh.Stream)) {}

// other is another member of the run.
func other(state mesh.State, status mesh.Status) mesh.Member {
	return mesh.Member{ID: "other", State: state, Status: status}
}
