package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"loco/mesh/p2p"
	"loco/trainer"
	"loco/worker/config"
)

func testSpec(t *testing.T) *Spec {
	t.Helper()
	cfg := config.Default()
	s, err := NewSpec(&cfg, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A worker's folder is held by one process, and free again when that one releases it.
func TestAFolderIsHeldOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := testSpec(t)
		a, err := s.takeSeat(0)
		if err != nil {
			t.Fatal(err)
		}
		if !Occupied(a.dir) || Occupied(s.workerDir(1)) {
			t.Error("a held folder is free, or one that does not exist is held")
		}
		if _, err := s.takeSeat(0); !errors.Is(err, errTaken) || !strings.Contains(err.Error(), "worker 0 runs already") || !strings.Contains(err.Error(), "--worker") {
			t.Errorf("a held folder is taken: %v", err)
		}
		b, err := s.takeFreeSeat(0)
		if err != nil || b.number != 1 || b.dir != filepath.Join(s.dir, "worker-1") {
			t.Errorf("the lowest free folder is %+v, %v", b, err)
		}
		if err := os.WriteFile(a.path(addressFile), []byte("of a killed process"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := a.release(); err != nil {
			t.Fatal(err)
		}
		c, err := s.takeFreeSeat(0)
		if err != nil || c.number != 0 {
			t.Fatalf("the lowest free folder is %+v, %v", c, err)
		}
		if _, err := os.Stat(c.path(addressFile)); err == nil {
			t.Error("the address of a killed process is still there")
		}
		for _, s := range []*seat{b, c} {
			if err := s.release(); err != nil {
				t.Error(err)
			}
		}
	})
}

// A folder whose lock another process probes for a moment is taken all the same.
func TestAFolderIsTriedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := testSpec(t)
		a, err := s.takeSeat(0)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			time.Sleep(lockTries*lockPause - lockPause/2) // virtual
			_ = a.release()
		}()
		b, err := s.takeSeat(0)
		if err != nil {
			t.Fatal(err)
		}
		_ = b.release()
	})
}

// entering is a process up to its mesh, whose New answers as it is told.
func entering(t *testing.T, newMesh func(c p2p.Config) (meshOfRun, error)) (p *process, taken *int) {
	t.Helper()
	s, taken := testSpec(t), new(int)
	p = newProcess(s, Options{Join: []string{"/ip4/192.0.2.7/tcp/1/p2p/X"}, Emit: func(event any) {
		if e, ok := event.(*TakenEvent); ok && e.By == "another" && e.Patience == s.cfg.Mesh.DeadAfter {
			*taken++
		}
	}})
	p.compute, p.runID = &compute{}, "0123456789abcdef"
	p.newMesh = func(_ context.Context, c p2p.Config) (meshOfRun, error) { return newMesh(c) }
	return p, taken
}

// A worker that was given no number takes the next where one is taken elsewhere, and leaves
// nothing held.
func TestATakenNumberIsLeft(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var tried []int
		p, events := entering(t, func(c p2p.Config) (meshOfRun, error) {
			tried = append(tried, c.Worker)
			if c.Worker < 2 {
				return nil, &p2p.WorkerTakenError{Worker: c.Worker, By: "another"}
			}
			return simMesh{}, nil
		})
		if err := p.enterMesh(t.Context(), -1); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(tried) != "[0 1 2]" || p.seat.number != 2 || *events != 0 {
			t.Errorf("numbers %v were tried, the worker has %d; %d events", tried, p.seat.number, *events)
		}
		for k, want := range []bool{false, false, true} {
			if got := Occupied(p.spec.workerDir(k)); got != want {
				t.Errorf("folder %d is held: %v", k, got)
			}
		}
		p.closers = p.closers[:2] // not the mesh, which is none
		if err := p.close(); err != nil {
			t.Error(err)
		}
	})
}

// A number that was given is tried until a former process of the worker must be known as dead.
func TestAGivenNumberIsTriedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		tries := 0
		p, events := entering(t, func(c p2p.Config) (meshOfRun, error) {
			if tries++; tries < 3 {
				return nil, &p2p.WorkerTakenError{Worker: c.Worker, By: "another"}
			}
			return simMesh{}, nil
		})
		began := time.Now()
		if err := p.enterMesh(t.Context(), 5); err != nil || p.seat.number != 5 || tries != 3 || *events != 1 || time.Since(began) != 2*takenPause {
			t.Errorf("after %d tries in %v, and %d events: %v", tries, time.Since(began), *events, err)
		}
		p.closers = p.closers[:2]
		if err := p.close(); err != nil {
			t.Error(err)
		}

		var taken *p2p.WorkerTakenError
		p, _ = entering(t, func(c p2p.Config) (meshOfRun, error) {
			return nil, &p2p.WorkerTakenError{Worker: c.Worker, By: "another"}
		})
		began = time.Now()
		err := p.enterMesh(t.Context(), 5)
		if took, most := time.Since(began), p.spec.cfg.Mesh.DeadAfter; !errors.As(err, &taken) || took < most || took > most+2*takenPause {
			t.Errorf("given up after %v of %v: %v", took, most, err)
		}
		if err := p.close(); err != nil || Occupied(p.seat.dir) {
			t.Errorf("the folder is still held: %v", err)
		}

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		p, _ = entering(t, func(c p2p.Config) (meshOfRun, error) {
			return nil, &p2p.WorkerTakenError{Worker: c.Worker, By: "another"}
		})
		began = time.Now()
		if err := p.enterMesh(ctx, 5); !errors.As(err, &taken) || time.Since(began) > 0 {
			t.Errorf("a stop while the number is tried: %v after %v", err, time.Since(began))
		}
		_ = p.close()
	})
}

// A worker that runs another configuration than the members has a user who must correct it.
func TestAnotherConfigurationIsTheUsersToCorrect(t *testing.T) {
	p, _ := entering(t, func(p2p.Config) (meshOfRun, error) { return nil, &p2p.ConfigError{Peer: "other"} })
	var usage *UsageError
	var other *p2p.ConfigError
	if err := p.enterMesh(t.Context(), 0); !errors.As(err, &usage) || !errors.As(err, &other) {
		t.Error(err)
	}
	if err := p.close(); err != nil || Occupied(p.seat.dir) {
		t.Errorf("the folder is still held: %v", err)
	}
	p, _ = entering(t, func(p2p.Config) (meshOfRun, error) { return nil, errors.New("no network") })
	if err := p.enterMesh(t.Context(), 0); err == nil || errors.As(err, &usage) {
		t.Error(err)
	}
	_ = p.close()
}

// A worker joins through the members that run in its folder, and through what it is told.
func TestAddressesOfTheFolder(t *testing.T) {
	p, _ := entering(t, nil)
	var err error
	if p.seat, err = p.spec.takeSeat(0); err != nil {
		t.Fatal(err)
	}
	defer p.seat.release()
	for k, held := range []bool{true, true, false} { // 0 is its own, 2 that of a killed process
		dir := p.spec.workerDir(k)
		if k > 0 {
			s, err := p.spec.takeSeat(k)
			if err != nil {
				t.Fatal(err)
			}
			if held {
				defer s.release()
			} else {
				_ = s.release()
			}
		}
		if err := os.WriteFile(filepath.Join(dir, addressFile), fmt.Appendf(nil, "/a/%d\n/b/%d\n", k, k), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := p.meshConfig()
	if fmt.Sprint(c.Bootstrap) != "[/a/1 /b/1 /ip4/192.0.2.7/tcp/1/p2p/X]" || c.RunID != p.runID || c.IdentityFile != filepath.Join(p.seat.dir, "identity.key") {
		t.Errorf("%+v", c)
	}
}

// A stop before a worker is in the run is no failure.
func TestAStopBeforeTheBegin(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newTestRun(t, 1, t.TempDir(), "sync.strategy=alone", "run.workers=1")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		cfg := r.cfg
		spec, err := NewSpec(&cfg, r.dir)
		if err != nil {
			t.Fatal(err)
		}
		err = Run(ctx, spec, Options{Number: -1, Emit: func(any) {}})
		if !errors.Is(err, trainer.ErrStopped) {
			t.Errorf("a stop while the data is prepared: %v", err)
		}
	})
}
