package process

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"sync"
	"testing"

	"loco/gossip/exchange"
	"loco/kernels"
	"loco/trainer"
	"loco/trainer/data"
	"loco/worker/config"
)

var joinSeeds = flag.Int("joins", 0, "measure the inner moments of a joiner with so many seeds; minutes each")

// gatherer averages among workers of one process in fp32, in worker order.
type gatherer struct {
	mu    sync.Mutex
	n     int
	vecs  map[int][]byte // fp32
	mean  []byte
	round chan struct{}
}

func newGatherer(n int) *gatherer {
	return &gatherer{n: n, vecs: map[int][]byte{}, round: make(chan struct{})}
}

// seatOf is the averager of one worker.
type seatOf struct {
	*gatherer
	worker int
}

func (seatOf) Over(uint64, float64) bool { return false }
func (seatOf) Awaited(uint64) bool       { return false }

func (s seatOf) Average(_ context.Context, _ uint64, _ exchange.Part, vec exchange.Vector, weight float64, _ exchange.Base) (exchange.Outcome, error) {
	s.mu.Lock()
	s.vecs[s.worker] = vec.Bytes
	done := s.round
	if len(s.vecs) == s.n {
		mean := make([]float32, vec.Values)
		for k := range s.n {
			kernels.FormatFP32.DecodeAdd(mean, s.vecs[k], 1/float32(s.n))
		}
		s.mean = make([]byte, len(vec.Bytes))
		kernels.FormatFP32.Encode(s.mean, mean)
		clear(s.vecs)
		s.round = make(chan struct{})
		close(done)
	}
	s.mu.Unlock()
	<-done
	out := exchange.Outcome{Mean: []exchange.Term{{Bytes: s.mean, Share: 1}}, Attempts: 1, Tokens: weight * float64(s.n)}
	for k := range s.n {
		out.Members = append(out.Members, k)
	}
	return out, nil
}

// joinRun is four workers of the preset tiny in one process.
type joinRun struct {
	t        *testing.T
	learners []*trainer.Llama
	spec     *Spec
}

// session trains from snapshots to a round, and returns each worker's state, its training
// loss by round, and the held-out loss by round.
func (r *joinRun) session(from []*trainer.Snapshot, until uint64) (snaps []*trainer.Snapshot, loss []map[uint64]float64, heldout map[uint64]float64) {
	n := len(r.learners)
	g := newGatherer(n)
	snaps, heldout = make([]*trainer.Snapshot, n), map[uint64]float64{}
	loss = make([]map[uint64]float64, n)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for k := range n {
		loss[k] = map[uint64]float64{}
		cfg := r.spec.trainerConfig(until)
		cfg.Worker = k
		tr, err := trainer.New(cfg, r.learners[k], trainer.Hooks{Average: seatOf{g, k}, Save: func(_ context.Context, capture func(*trainer.Snapshot) error) error {
			snaps[k] = new(trainer.Snapshot)
			return capture(snaps[k])
		}, Report: func(event any) {
			mu.Lock()
			defer mu.Unlock()
			switch e := event.(type) {
			case *trainer.RoundEvent:
				loss[k][e.Round] = e.TrainLoss
			case *trainer.EvalEvent:
				heldout[e.Round] = e.HeldoutLoss
			}
		}})
		if err == nil && from != nil {
			err = tr.Restore(from[k])
		}
		if err != nil {
			r.t.Fatal(err)
		}
		wg.Go(func() {
			if err := tr.Run(r.t.Context(), nil); err != nil && !errors.Is(err, trainer.ErrStopped) {
				r.t.Error(err)
			}
		})
	}
	wg.Wait()
	return snaps, loss, heldout
}

// TestJoinersMomentsMeasured compares a worker that joins at half of a run of 40 rounds with one
// that never left: everything else is the same to the bit. docs/results.md has the table.
func TestJoinersMomentsMeasured(t *testing.T) {
	if *joinSeeds == 0 {
		t.Skip("a measurement: -joins SEEDS")
	}
	const rounds, half, joiner = 40, 20, 3
	for seed := 1; seed <= *joinSeeds; seed++ {
		cfg, err := config.Load("", []string{"run.rounds=40", "run.eval_every=1", fmt.Sprint("run.seed=", seed), "inner.precision=fp32", "sync.codec=fp32"})
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		set, err := data.Prepare(t.Context(), DataOptions(&cfg, dir))
		if err != nil {
			t.Fatal(err)
		}
		build := func(warmup int) *joinRun {
			cfg := cfg
			cfg.Sync.JoinWarmup = warmup
			cfg.Inner.Threads, cfg.Inner.Device = 1, config.CPU
			s, err := NewSpec(&cfg, dir)
			if err != nil {
				t.Fatal(err)
			}
			r := &joinRun{t: t, spec: s}
			for k := range cfg.Run.Workers {
				r.learners = append(r.learners, learnerOf(t, s, set, k))
			}
			return r
		}
		middle, _, _ := build(0).session(nil, half)
		var never []map[uint64]float64
		var neverHeld map[uint64]float64
		for _, c := range []struct {
			name    string
			warmup  int
			moments func(s *trainer.Snapshot)
		}{
			{"never left", 0, func(*trainer.Snapshot) {}},
			{"fetched", 0, func(s *trainer.Snapshot) {
				withMoments(s, middle[0].Vector(trainer.MomentM), middle[0].Vector(trainer.MomentV), middle[0].Updates)
			}},
			{"fresh, at once", 0, fresh}, {"fresh, 10 steps", 10, fresh}, {"fresh, 20 steps", 20, fresh},
			{"fresh, 40 steps", 40, fresh}, {"fresh, 80 steps", 80, fresh},
		} {
			from := slices.Clone(middle)
			s := *middle[joiner]
			c.moments(&s)
			from[joiner] = &s
			_, loss, held := build(c.warmup).session(from, rounds)
			if never == nil {
				never, neverHeld = loss, held
			}
			row := fmt.Sprintf("seed %d | %s |", seed, c.name)
			for _, span := range [][2]uint64{{21, 21}, {22, 22}, {23, 25}, {26, 40}} {
				sum := 0.0
				for round := span[0]; round <= span[1]; round++ {
					sum += loss[joiner][round] - never[joiner][round]
				}
				row += fmt.Sprintf(" %+.4f |", sum/float64(span[1]-span[0]+1))
			}
			for _, round := range []uint64{21, 22, 25, 40} {
				row += fmt.Sprintf(" %.4f (%+.4f) |", held[round], held[round]-neverHeld[round])
			}
			t.Log(row)
		}
	}
}

func fresh(s *trainer.Snapshot) {
	n := len(s.Vector(trainer.MomentM))
	withMoments(s, make([]float32, n), make([]float32, n), 0)
}

// withMoments gives a snapshot other inner moments, and leaves alone what it shares with its copies.
func withMoments(s *trainer.Snapshot, m, v []float32, updates uint64) {
	s.Vectors, s.Updates = slices.Clone(s.Vectors), updates
	for i, x := range s.Vectors {
		switch x.Name {
		case trainer.MomentM:
			s.Vectors[i].Data = m
		case trainer.MomentV:
			s.Vectors[i].Data = v
		}
	}
}

// learnerOf makes worker number k's learner.
func learnerOf(t testing.TB, s *Spec, set data.Set, k int) *trainer.Llama {
	t.Helper()
	compute, err := openCompute(s.cfg.Inner, k)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = compute.close() })
	replicas, err := s.newReplicas(compute)
	if err != nil {
		t.Fatal(err)
	}
	l, err := s.newLearner(replicas, compute.peers, set, k)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
