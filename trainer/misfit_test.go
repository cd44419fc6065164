package trainer

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"loco/gossip/exchange"
)

// Rounds that do not lead to the group's state are not taken, the worker's own state stays as
// it was, and a worker whose sources send nothing else says so in the end.
func TestRoundsThatDoNotFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		var tr *Trainer
		tr = start(t, diloco(4, 9), newQuadratic(5, drift(0)), Hooks{
			Average: alwaysBehind{newExact(1).worker(0)},
			Fetch: func(context.Context) (*exchange.Fetched, error) {
				asked++
				h := tr.Head()
				wrong := make([]byte, 4*5)
				return &exchange.Fetched{State: exchange.State{Mark: h.Mark}, Results: []exchange.Result{{Tokens: 10, Bytes: wrong}}, Past: []exchange.Mark{{Round: h.Round + 1, Digest: [32]byte{1}}}}, nil
			},
		})
		before := tr.stateDigest
		err := tr.Run(t.Context(), nil)
		if err == nil || !strings.Contains(err.Error(), "without its checkpoints") || asked != misfitsMax {
			t.Errorf("asked %d times, error %v", asked, err)
		}
		if tr.stateDigest != before || tr.round != 0 {
			t.Errorf("the worker is in round %d with another state than it had", tr.round)
		}
	})
}

// alwaysBehind says at every exchange that the others are further on.
type alwaysBehind struct{ Averager }

func (a alwaysBehind) Average(_ context.Context, _ uint64, _ exchange.Part, _ exchange.Vector, _ float64, _ exchange.Base) (exchange.Outcome, error) {
	return exchange.Outcome{Behind: true, Why: "a test"}, nil
}
