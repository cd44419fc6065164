package trainer

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"loco/gossip/exchange"
)

// A worker that is behind asks again while sources come and go, and for no longer than half
// a minute.
func TestBehindAsksAgain(t *testing.T) {
	source := start(t, diloco(4, 9), newQuadratic(5, drift(1)), Hooks{Average: newExact(1).worker(0)})
	source.cfg.StopAfter = 3
	if err := source.Run(t.Context(), nil); !errors.Is(err, ErrStopped) {
		t.Fatal(err)
	}
	shared := fetchedFrom(t, source)
	for name, c := range map[string]struct {
		failures int
		err      error
		want     string
	}{
		"a source that breaks":  {3, errors.New("stream reset"), ""},
		"a source that is away": {3, exchange.ErrNobody, ""},
		"no source that serves": {1000, errors.New("stream reset"), "take over the others' state (round 3 is under way): stream reset"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				tr := start(t, diloco(4, 9), newQuadratic(5, drift(0)), Hooks{
					Average: behindOnce{newExact(1).worker(0), new(bool)},
					Fetch: func(context.Context) (*exchange.Fetched, error) {
						if asked++; asked <= c.failures {
							return nil, c.err
						}
						return shared, nil
					},
				})
				began := time.Now()
				err := tr.oneRound(lockedContext(t, tr))
				if c.want == "" && (err != nil || tr.round != 3 || asked != c.failures+1) {
					t.Errorf("round %d after asking %d times, error %v", tr.round, asked, err)
				}
				if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
					t.Errorf("error %v, want one with %q", err, c.want)
				}
				if took := time.Since(began); took > 40*time.Second {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

// Two workers that are behind at the same moment, and fetch from each other, do not wait for
// each other.
func TestStateIsServedWhileFetching(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var other *Trainer
		tr := start(t, diloco(4, 9), newQuadratic(5, drift(0)), Hooks{
			Average: behindOnce{newExact(1).worker(0), new(bool)},
			Fetch: func(ctx context.Context) (*exchange.Fetched, error) {
				ctx, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				s, err := other.Share(ctx)
				return &exchange.Fetched{State: s}, err
			},
		})
		other = tr
		began := time.Now()
		if err := tr.oneRound(lockedContext(t, tr)); err != nil || time.Since(began) > 0 {
			t.Errorf("error %v after %v", err, time.Since(began))
		}
	})
}

// A stop while the state is fetched is a stop, and no failure.
func TestStopWhileFetching(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := make(chan struct{})
		tr := start(t, diloco(4, 9), newQuadratic(5, drift(0)), Hooks{
			Average: behindOnce{newExact(1).worker(0), new(bool)},
			Fetch:   func(context.Context) (*exchange.Fetched, error) { return nil, errors.New("stream reset") },
		})
		time.AfterFunc(3*time.Second, func() { close(stop) })
		if err := tr.Run(t.Context(), stop); !errors.Is(err, ErrStopped) {
			t.Errorf("error %v, want ErrStopped", err)
		}
	})
}

// A stop in the last step of a round begins no exchange: workers that were stopped too may be
// gone, and it would be the mean of one.
func TestStopInTheLastStepBeginsNoExchange(t *testing.T) {
	stop := make(chan struct{})
	q := newQuadratic(5, drift(0))
	q.onStep = func(step uint64) {
		if step == 3 {
			close(stop)
			<-time.After(50 * time.Millisecond) // until Run has heard of it
		}
	}
	synctest.Test(t, func(t *testing.T) {
		stop = make(chan struct{})
		spy := averagerFunc(func([]float32) { t.Error("an exchange was begun") })
		tr := start(t, diloco(4, 5), q, Hooks{Average: spy})
		if err := tr.Run(t.Context(), stop); !errors.Is(err, ErrStopped) {
			t.Errorf("error %v, want ErrStopped", err)
		}
		if round, step, _ := tr.Position(); round != 0 || step != 4 {
			t.Errorf("stopped in round %d at step %d, want 0 and 4", round, step)
		}
	})
}
