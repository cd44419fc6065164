package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"loco/mesh"
	"loco/trainer"
)

func newTestWorker(t *testing.T, cfg Config, m mesh.Mesh, hooks Hooks) *Worker {
	t.Helper()
	w, err := New(cfg, m, newToy(cfg.Number), hooks)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// amid is the checkpoint of a worker that stopped after the first step of its first round.
func amid(t *testing.T) *trainer.Snapshot {
	t.Helper()
	var snap *trainer.Snapshot
	ctx, stop := context.WithCancel(t.Context())
	w := newTestWorker(t, testConfig(0), newStage(), Hooks{
		Save: func(_ context.Context, capture func(*trainer.Snapshot) error) error {
			snap = new(trainer.Snapshot)
			return capture(snap)
		},
		Report: func(event any) {
			if _, ok := event.(*trainer.StepEvent); ok {
				stop()
				time.Sleep(time.Second) // virtual
			}
		},
	})
	if err := w.Train(t.Context(), ctx.Done()); !errors.Is(err, trainer.ErrStopped) || snap == nil || snap.Step != 1 {
		t.Fatal(err)
	}
	return snap
}

// A worker takes over the state of a run that is ahead of it, begins together with the others
// where none has begun, and otherwise just goes on.
func TestEnter(t *testing.T) {
	const (
		fetches = "fetches"
		gathers = "gathers"
		begins  = "begins"
	)
	run := func(round, step uint64) mesh.Status {
		return mesh.Status{Ready: true, Begun: true, Round: round, Step: step}
	}
	for name, c := range map[string]struct {
		others []mesh.Member
		change func(*Config)
		amid   bool
		want   string
	}{
		"nobody else":                   {nil, nil, false, gathers},
		"one that gathers, too":         {[]mesh.Member{other(mesh.Alive, mesh.Status{Ready: true})}, nil, false, begins},
		"one that is not ready":         {[]mesh.Member{other(mesh.Joining, mesh.Status{})}, nil, false, gathers},
		"a suspect that is ready":       {[]mesh.Member{other(mesh.Suspect, mesh.Status{Ready: true})}, nil, false, begins},
		"one that is dead":              {[]mesh.Member{other(mesh.Dead, run(3, 120))}, nil, false, gathers},
		"one in this round":             {[]mesh.Member{other(mesh.Alive, run(0, 0))}, nil, false, begins},
		"one a little ahead":            {[]mesh.Member{other(mesh.Alive, run(0, 4))}, nil, false, begins},
		"one well ahead":                {[]mesh.Member{other(mesh.Alive, run(0, 5))}, nil, false, fetches},
		"one well ahead, of a resume":   {[]mesh.Member{other(mesh.Alive, run(0, 30))}, nil, true, begins},
		"one in the next round":         {[]mesh.Member{other(mesh.Alive, run(1, 40))}, nil, false, fetches},
		"the same, of a resume":         {[]mesh.Member{other(mesh.Alive, run(1, 40))}, nil, true, fetches},
		"a suspect in the next round":   {[]mesh.Member{other(mesh.Suspect, run(1, 40))}, nil, false, fetches},
		"one that has not begun":        {[]mesh.Member{other(mesh.Alive, mesh.Status{Ready: true, Round: 1, Step: 40})}, nil, false, begins},
		"one that fetches itself":       {[]mesh.Member{other(mesh.Joining, mesh.Status{Begun: true, Round: 1, Step: 40})}, nil, false, begins},
		"a time for a round":            {[]mesh.Member{other(mesh.Alive, run(0, 3))}, func(c *Config) { c.Trainer.InnerTime = time.Minute }, false, fetches},
		"a time for a round, and close": {[]mesh.Member{other(mesh.Alive, run(0, 2))}, func(c *Config) { c.Trainer.InnerTime = time.Minute }, false, begins},
		"one of three in this round":    {[]mesh.Member{other(mesh.Alive, run(0, 0))}, func(c *Config) { c.Workers = 3 }, false, begins},
		"a suspect of three in it":      {[]mesh.Member{other(mesh.Suspect, run(0, 0))}, func(c *Config) { c.Workers = 3 }, false, begins},
		"a dead one of three in it":     {[]mesh.Member{other(mesh.Dead, run(0, 0))}, func(c *Config) { c.Workers = 3 }, false, gathers},
		"one of three that gathers":     {[]mesh.Member{other(mesh.Alive, mesh.Status{Ready: true})}, func(c *Config) { c.Workers = 3 }, false, gathers},
		"short rounds":                  {[]mesh.Member{other(mesh.Alive, run(0, 2))}, func(c *Config) { c.Trainer.InnerSteps = 4 }, false, begins},
		"alone":                         {[]mesh.Member{other(mesh.Alive, run(3, 120))}, func(c *Config) { c.Trainer.Strategy = "alone" }, false, begins},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := testConfig(0)
				if c.change != nil {
					c.change(&cfg)
				}
				m := newStage(c.others...)
				begun := -1
				var peers []*PeersEvent
				var text bytes.Buffer
				w := newTestWorker(t, cfg, m, Hooks{
					Log:   slog.New(slog.NewTextHandler(&text, nil)),
					Begin: func(round uint64) error { begun = int(round); return nil },
					Report: func(event any) {
						if e, ok := event.(*PeersEvent); ok {
							peers = append(peers, e)
						}
					},
				})
				if c.amid {
					if err := w.Restore(amid(t)); err != nil {
						t.Fatal(err)
					}
				}
				began := time.Now()
				err := w.Enter(t.Context())
				took := time.Since(began)
				if c.want == fetches {
					if err == nil || !strings.Contains(err.Error(), "join the run, which is in round") || took < cfg.JoinTimeout || took > cfg.JoinTimeout+time.Minute || begun >= 0 || len(m.said) > 0 {
						t.Errorf("%v after %v; begun in %d, %d announcements", err, took, begun, len(m.said))
					}
					if again := strings.Count(text.String(), "fetching the run's state again"); !strings.Contains(text.String(), "the run is under way; fetching its state\" round="+fmt.Sprint(c.others[0].Round)+" own_round=0") || again < 20 {
						t.Errorf("fetched again %d times:\n%s", again, text.String())
					}
					return
				}
				if err != nil || begun != 0 {
					t.Fatalf("%v, begun in %d", err, begun)
				}
				if want := map[string]time.Duration{gathers: cfg.JoinTimeout, begins: 0}[c.want]; took != want {
					t.Errorf("it took %v, want %v", took, want)
				}
				if late := strings.Contains(text.String(), "not all workers came; going on with those who are here"); late != (c.want == gathers) {
					t.Errorf("the log is\n%s", text.String())
				}
				if (c.want == gathers) != (len(peers) > 0 && peers[len(peers)-1].Ready < cfg.Workers) {
					t.Errorf("peers %+v", peers)
				}
				if n := len(m.said); n != 2 || !m.said[0].Ready || m.said[0].Begun || !m.said[1].Ready || !m.said[1].Begun || m.said[1].Done {
					t.Errorf("announced %+v", m.said)
				}
			})
		})
	}
}

// Workers that begin together wait for each other no longer than needed.
func TestGatherEndsWhenAllAreReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newStage(other(mesh.Joining, mesh.Status{}))
		var peers []PeersEvent
		w := newTestWorker(t, testConfig(1), m, Hooks{Report: func(event any) { peers = append(peers, *event.(*PeersEvent)) }})
		go func() {
			time.Sleep(3 * time.Second)
			m.set(other(mesh.Alive, mesh.Status{Ready: true}))
		}()
		began := time.Now()
		if err := w.Enter(t.Context()); err != nil || time.Since(began) != 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		want := []PeersEvent{{"peers", 1, 2, 1}, {"peers", 1, 2, 2}}
		if len(peers) != 2 || peers[0] != want[0] || peers[1] != want[1] {
			t.Errorf("%+v, want %+v", peers, want)
		}
	})
}

// A stop ends the waiting: what the trainer can take in is no error, a state that is missing is.
func TestAStopWhileEntering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		m := newStage()
		if err := newTestWorker(t, testConfig(0), m, Hooks{}).Enter(ctx); err != nil || time.Since(began) != time.Second || !m.said[len(m.said)-1].Begun {
			t.Errorf("a stop while it gathers: %v after %v", err, time.Since(began))
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		m = newStage(other(mesh.Alive, mesh.Status{Ready: true, Begun: true, Round: 3}))
		if err := newTestWorker(t, testConfig(0), m, Hooks{}).Enter(ctx); err == nil || time.Since(began) > 2*time.Second {
			t.Errorf("a stop while it fetches: %v after %v", err, time.Since(began))
		}
		broken := errors.New("no disk")
		m = newStage()
		if err := newTestWorker(t, testConfig(0), m, Hooks{Begin: func(uint64) error { return broken }}).Enter(t.Context()); !errors.Is(err, broken) || len(m.said) > 0 {
			t.Errorf("what is around the worker fails: %v, %+v", err, m.said)
		}
	})
}

// A worker that is done stays for those in their last round; one that stops before does not.
func TestDepart(t *testing.T) {
	for name, c := range map[string]struct {
		others []mesh.Member
		done   bool
		change func(*Config)
		want   time.Duration
	}{
		"nobody else":           {nil, true, nil, 0},
		"one in its last round": {[]mesh.Member{other(mesh.Alive, mesh.Status{Begun: true})}, true, nil, 4 * time.Second},
		"one that is silent":    {[]mesh.Member{other(mesh.Suspect, mesh.Status{Begun: true})}, true, nil, 4 * time.Second},
		"one that is dead":      {[]mesh.Member{other(mesh.Dead, mesh.Status{})}, true, nil, 0},
		"a stop":                {[]mesh.Member{other(mesh.Alive, mesh.Status{})}, false, nil, 0},
		"one that stays away":   {[]mesh.Member{{ID: "slow", State: mesh.Alive}}, true, nil, 20 * time.Second},
		"a short deadline":      {[]mesh.Member{{ID: "slow", State: mesh.Alive}}, true, func(c *Config) { c.Gossip.Deadline = time.Second }, departWait},
		"alone":                 {[]mesh.Member{other(mesh.Alive, mesh.Status{})}, true, func(c *Config) { c.Trainer.Strategy = "alone" }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := testConfig(0)
				if c.change != nil {
					c.change(&cfg)
				}
				m := newStage(c.others...)
				w := newTestWorker(t, cfg, m, Hooks{})
				go func() {
					time.Sleep(4 * time.Second)
					if len(c.others) > 0 && c.others[0].ID == "other" {
						m.set(other(mesh.Alive, mesh.Status{Done: true}))
					}
				}()
				began := time.Now()
				w.Depart(t.Context(), c.done)
				if took := time.Since(began); took != c.want {
					t.Errorf("it stays for %v, want %v", took, c.want)
				}
				if len(m.said) != 1 || m.said[0].Done != c.done {
					t.Errorf("announced %+v", m.said)
				}
				time.Sleep(5 * time.Second)
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		stop, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		w := newTestWorker(t, testConfig(0), newStage(other(mesh.Alive, mesh.Status{})), Hooks{})
		began := time.Now()
		if w.Depart(stop, true); time.Since(began) != time.Second {
			t.Errorf("a stop ends it after %v", time.Since(began))
		}
	})
}
