package clustertest

import (
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"loco/gossip"
)

// tamper spoils what worker 1 gets from its exchange before the checker sees it, or what it
// does with it afterwards.
type tamper struct {
	before, after func(p *process, own, vec []float32, weight float64, out *gossip.Outcome)
}

func (w *world) spoil(stage func(*process, []float32, []float32, float64, *gossip.Outcome), p *process, own, vec []float32, weight float64, out *gossip.Outcome) {
	if stage != nil && p.index == 1 {
		stage(p, own, vec, weight, out)
	}
}

// TestPlantedMistakes plants mistakes one at a time in one worker, and wants the checker to
// find each within some schedules: otherwise it is worth nothing.
func TestPlantedMistakes(t *testing.T) {
	bit := func(_ *process, _, vec []float32, _ float64, _ *gossip.Outcome) {
		vec[0] = math.Float32frombits(math.Float32bits(vec[0]) ^ 1)
	}
	for _, c := range []struct {
		name, want string
		plant      tamper
	}{
		{"its own step is applied as if averaged", "takes as the mean", tamper{before: func(_ *process, own, vec []float32, _ float64, _ *gossip.Outcome) { copy(vec, own) }}},
		{"one bit of a mean is wrong", "takes as the mean", tamper{before: bit}},
		{"the tokens are not those of the members", "takes as the mean", tamper{before: func(_ *process, _, _ []float32, _ float64, out *gossip.Outcome) { out.Tokens += stepTokens }}},
		{"a member is not named", "takes as the mean", tamper{before: func(_ *process, _, _ []float32, _ float64, out *gossip.Outcome) { out.Members = out.Members[1:] }}},
		{"a worker goes on alone", "", tamper{before: func(p *process, own, vec []float32, weight float64, out *gossip.Outcome) {
			sum := make([]float32, len(own))
			encoded, _ := p.w.codec().AppendEncode(nil, own)
			_ = p.w.codec().DecodeAdd(sum, encoded, 1)
			copy(vec, sum)
			out.Members, out.Tokens = []int{p.index}, weight
		}}},
		{"a mean is applied with a wrong bit", "than others after round", tamper{after: bit}},
		{"a result is thrown away", "", tamper{after: func(_ *process, _, _ []float32, _ float64, out *gossip.Outcome) { out.Behind = true }}},
		{"an exchange takes for ever", "waited", tamper{before: func(p *process, _, _ []float32, _ float64, _ *gossip.Outcome) { _ = pause(p.ctx, time.Minute) }}},
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
