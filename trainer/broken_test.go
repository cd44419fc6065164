package trainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"loco/trainer/strategy"
)

// A device that is lost at any step leaves the newest state of the host as a checkpoint,
// sends nothing of what it computed since, and the run goes on from there.
func TestLostDeviceIsSalvaged(t *testing.T) {
	cfg := diloco(4, 5)
	cfg.SaveEvery = 2
	for k := range uint64(40) {
		at, onHost := k/2, k%2 == 0
		t.Run(fmt.Sprint(at, onHost), func(t *testing.T) {
			q := newQuadratic(5, drift(0))
			var learner Learner = q
			if !onHost { // φ too is on the device
				learner = newOnDevice(t, q)
			}
			q.onStep = func(step uint64) {
				if step == at {
					q.lose()
				}
			}
			exchanges := uint64(0)
			net := newExact(1).worker(0)
			phi := [][]float32{slices.Clone(q.theta)} // by round
			hooks := Hooks{Average: averagerFunc(func([]float32) { exchanges++ })}
			var saved Snapshot
			hooks.Save = func(_ context.Context, capture func(*Snapshot) error) error { return capture(&saved) }
			tr := start(t, cfg, learner, hooks)
			tr.hooks.Report = func(e any) {
				if _, ok := e.(*RoundEvent); ok {
					var s Snapshot
					tr.captureOuter(&s)
					phi = append(phi, s.Vector(strategy.Slow))
				}
			}
			err := tr.Run(t.Context(), nil)
			if !errors.Is(err, ErrDevice) || !errors.Is(err, q.lost) || errors.Is(err, ErrDiverged) {
				t.Fatal(err)
			}
			round := at / 4
			if exchanges != round || saved.Round != round {
				t.Fatalf("%d exchanges and a checkpoint of round %d, want %d of both", exchanges, saved.Round, round)
			}
			equal(t, "φ", saved.Vector(strategy.Slow), phi[round])
			regular := round > 0 && round%cfg.SaveEvery == 0
			if fresh := saved.Updates == 0; fresh == regular {
				t.Errorf("moments of %d updates after a save at this round: %v", saved.Updates, regular)
			}
			for i, v := range slices.Concat(saved.Vector(MomentM), saved.Vector(MomentV), saved.Vector(strategy.Momentum)) {
				if math.IsNaN(float64(v)) {
					t.Fatalf("value %d of what is saved is of the lost device", i)
				}
			}
			again := start(t, cfg, newQuadratic(5, drift(0)), Hooks{Average: net})
			if err := again.Restore(&saved); err != nil {
				t.Fatal(err)
			}
			run(t, again)
			if again.round != 5 {
				t.Errorf("ended at round %d", again.round)
			}
		})
	}
}

// Where all of the state is on the device, its loss saves nothing, nor spoils what is saved.
func TestLostDeviceWithoutHostState(t *testing.T) {
	q := newQuadratic(5, drift(0))
	q.onStep = func(step uint64) {
		if step == 6 {
			q.lose()
		}
	}
	saves := 0
	cfg := Config{Strategy: "alone", Rounds: 3, InnerSteps: 4}
	tr := start(t, cfg, q, Hooks{Save: func(_ context.Context, capture func(*Snapshot) error) error {
		saves++
		return capture(new(Snapshot))
	}})
	if err := tr.Run(t.Context(), nil); !errors.Is(err, ErrDevice) || saves != 0 {
		t.Fatalf("%v after %d saves", err, saves)
	}
	if err := tr.Capture(t.Context(), new(Snapshot)); !errors.Is(err, ErrDevice) {
		t.Errorf("capture: %v", err)
	}
}
