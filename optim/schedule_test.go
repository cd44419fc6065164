package optim

import (
	"math"
	"strings"
	"testing"
)

func TestScheduleAt(t *testing.T) {
	cases := []struct {
		name string
		s    Schedule
		step uint64
		want float64
	}{
		{"first warmup step", Schedule{Kind: "cosine", Warmup: 10, Total: 110}, 0, 0.1},
		{"last warmup step", Schedule{Kind: "cosine", Warmup: 10, Total: 110}, 9, 1},
		{"peak", Schedule{Kind: "cosine", Warmup: 10, Total: 110}, 10, 1},
		{"cosine middle", Schedule{Kind: "cosine", Warmup: 10, Total: 110, MinRatio: 0.1}, 60, 0.55},
		{"cosine end", Schedule{Kind: "cosine", Warmup: 10, Total: 110, MinRatio: 0.1}, 110, 0.1},
		{"past the end", Schedule{Kind: "cosine", Warmup: 10, Total: 110, MinRatio: 0.1}, 1 << 40, 0.1},
		{"linear middle", Schedule{Kind: "linear", Total: 100}, 25, 0.75},
		{"linear end", Schedule{Kind: "linear", Total: 100, MinRatio: 0.2}, 100, 0.2},
		{"wsd after the warmup", Schedule{Kind: "wsd", Warmup: 10, Total: 100, Decay: 40}, 10, 1},
		{"wsd stable", Schedule{Kind: "wsd", Total: 90400, Decay: 15700}, 74700, 1},
		{"wsd first of the tail", Schedule{Kind: "wsd", Total: 100, Decay: 4}, 97, 0.5},
		{"wsd tail", Schedule{Kind: "wsd", Total: 100, Decay: 40}, 70, 1 - math.Sqrt(0.25)},
		{"wsd end", Schedule{Kind: "wsd", Total: 100, Decay: 40}, 100, 0},
		{"wsd without a tail", Schedule{Kind: "wsd", Total: 100}, 100, 1},
		{"constant", Schedule{Kind: "constant", Total: 100}, 99, 1},
		{"linear after a warmup", Schedule{Kind: "linear", Warmup: 20, Total: 100}, 40, 0.75},
		{"constant after a warmup", Schedule{Kind: "constant", Warmup: 20, Total: 100, MinRatio: 0.5}, 60, 1},
		{"a run of one step", Schedule{Kind: "cosine", Total: 1, MinRatio: 1}, 0, 1},
		{"a warmup and a tail without a stable phase", Schedule{Kind: "wsd", Warmup: 5, Decay: 5, Total: 10}, 4, 1},
		{"warmup is the whole run", Schedule{Kind: "cosine", Warmup: 5, Total: 5}, 5, 1},
	}
	for _, c := range cases {
		if err := c.s.Validate(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		near(t, c.name, c.s.At(c.step), c.want, 1e-12)
	}
}

func TestScheduleValidate(t *testing.T) {
	for _, c := range []struct {
		want string
		s    Schedule
	}{
		{"cosine, wsd", Schedule{Kind: "sine", Total: 10}},
		{"warmup of 11", Schedule{Kind: "cosine", Warmup: 11, Total: 10}},
		{"warmup of -1", Schedule{Kind: "cosine", Warmup: -1, Total: 10}},
		{"run of 0", Schedule{Kind: "constant"}},
		{"decay 6", Schedule{Kind: "wsd", Warmup: 5, Decay: 6, Total: 10}},
		{"decay -1", Schedule{Kind: "wsd", Decay: -1, Total: 10}},
		{"ratio NaN", Schedule{Kind: "cosine", Total: 10, MinRatio: math.NaN()}},
		{"ratio 1.5", Schedule{Kind: "cosine", Total: 10, MinRatio: 1.5}},
		{"ratio -0.1", Schedule{Kind: "cosine", Total: 10, MinRatio: -0.1}},
	} {
		if err := c.s.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want one with %q", c.s, err, c.want)
		}
	}
}
