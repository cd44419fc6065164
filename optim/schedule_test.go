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
		{"wsd stable", Schedule{Kind: "wsd", Total: 90400, Decay: 15700}, 74700, 1},
		{"wsd tail", Schedule{Kind: "wsd", Total: 100, Decay: 40}, 70, 1 - math.Sqrt(0.25)},
		{"wsd end", Schedule{Kind: "wsd", Total: 100, Decay: 40}, 100, 0},
		{"wsd without a tail", Schedule{Kind: "wsd", Total: 100}, 100, 1},
		{"constant", Schedule{Kind: "constant", Total: 100}, 99, 1},
		{"warmup is the whole run", Schedule{Kind: "cosine", Warmup: 5, Total: 5}, 5, 1},
	}
	for _, c := range cases {
		if err := c.s.Validate(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := c.s.At(c.step); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestScheduleValidate(t *testing.T) {
	cases := map[string]Schedule{
		"cosine, wsd":    {Kind: "sine", Total: 10},
		"warmup of 11":   {Kind: "cosine", Warmup: 11, Total: 10},
		"decay 6":        {Kind: "wsd", Warmup: 5, Decay: 6, Total: 10},
		"smallest ratio": {Kind: "cosine", Total: 10, MinRatio: math.NaN()},
	}
	for want, s := range cases {
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want one with %q", s, err, want)
		}
	}
}
