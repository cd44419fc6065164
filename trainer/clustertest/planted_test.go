package clustertest

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"loco/gossip/exchange"
)

// tamper spoils what worker 1 gets from its exchange before the checker sees it, or what it
// does with it afterwards.
type tamper struct {
	before, after func(p *process, own []byte, weight float64, out *exchange.Outcome)
}

func (w *world) spoil(stage func(*process, []byte, float64, *exchange.Outcome), p *process, own []byte, weight float64, out *exchange.Outcome) {
	if stage != nil && p.index == 1 {
		stage(p, own, weight, out)
	}
}

// TestPlantedMistakes plants mistakes one at a time in one worker, and wants the checker to
// find each within some schedules: otherwise it is worth nothing.
func TestPlantedMistakes(t *testing.T) {
	bit := func(_ *process, own []byte, _ float64, out *exchange.Outcome) {
		if len(out.Mean) == 0 {
			out.Mean = []exchange.Term{{Bytes: own, Share: 1}}
		}
		out.Mean = slices.Clone(out.Mean)
		out.Mean[0].Bytes = slices.Clone(out.Mean[0].Bytes)
		out.Mean[0].Bytes[4] ^= 1 // a value of each format
	}
	for _, c := range []struct {
		name, want string
		plant      tamper
	}{
		{"its own step is applied as if averaged", "takes as the mean", tamper{before: func(_ *process, own []byte, _ float64, out *exchange.Outcome) {
			out.Mean = []exchange.Term{{Bytes: own, Share: 1}}
		}}},
		{"one bit of a mean is wrong", "takes as the mean", tamper{before: bit}},
		{"the tokens are not those of the members", "takes as the mean", tamper{before: func(_ *process, _ []byte, _ float64, out *exchange.Outcome) { out.Tokens += stepTokens }}},
		{"a member is not named", "takes as the mean", tamper{before: func(_ *process, _ []byte, _ float64, out *exchange.Outcome) { out.Members = out.Members[1:] }}},
		{"a worker goes on alone", "", tamper{before: func(p *process, own []byte, weight float64, out *exchange.Outcome) {
			out.Mean = []exchange.Term{{Bytes: own, Share: 1}}
			out.Members, out.Tokens = []int{p.index}, weight
		}}},
		{"a mean is applied with a wrong bit", "than others after round", tamper{after: bit}},
		{"a result is thrown away", "", tamper{after: func(_ *process, _ []byte, _ float64, out *exchange.Outcome) { out.Behind = true }}},
		{"an exchange takes for ever", "waited", tamper{before: func(p *process, _ []byte, _ float64, _ *exchange.Outcome) { _ = pause(p.ctx, time.Minute) }}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := uint64(1); seed <= 20; seed++ {
				why := ""
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, seed, draw(seed))
					w.plant = c.plant
					w.net = newSimNet(seed, w.params)
					w.live(w.schedule())
					why = w.check.failure()
				})
				if why != "" && strings.Contains(why, c.want) {
					t.Logf("schedule %d: %s", seed, why)
					return
				}
			}
			t.Error("20 schedules did not find it")
		})
	}
}
