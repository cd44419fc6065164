package bench

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"loco/kernels"
	"loco/kernels/cpu"
	"loco/trainer/model"
)

// tiny are sizes that even plain Go runs in no time; they leave tails of every vector.
func tiny() Sizes {
	cfg := model.Default()
	cfg.Vocab, cfg.Layers, cfg.Width, cfg.Heads, cfg.KVHeads, cfg.FFN, cfg.Context = 19, 1, 12, 2, 1, 10, 5
	return Sizes{
		Linear:    []Linear{{7, 5, 3}},
		Attention: []kernels.AttentionShape{{Batch: 2, Seq: 5, Heads: 2, KVHeads: 1, HeadDim: 6}},
		Rows:      7, Width: 9, FFN: 11, Vocab: 13, LossRows: 3, Parameters: 101,
		Steps: []Step{{Config: cfg, Batch: 2}, {Config: cfg, Batch: 1, Extra: true}},
	}
}

func newCPU(t *testing.T, threads int) *cpu.Device {
	t.Helper()
	d, err := cpu.New(threads, kernels.FP32)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// TestEveryCaseRuns runs the whole table and looks at every figure.
func TestEveryCaseRuns(t *testing.T) {
	for _, threads := range []int{1, 3} {
		d := newCPU(t, threads)
		b := New(d)
		for _, c := range Cases(tiny()) {
			m, err := b.Prepare(c)
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				m.Round()
			}
			if m.Rounds() != 3 {
				t.Errorf("%s: %d rounds, want 3", c.Name(), m.Rounds())
			}
			checkResult(t, c, m.Result(), d.FusedMultiplyAdds(1, 1) > 0)
		}
	}
}

func checkResult(t *testing.T, c Case, r Result, hasPeak bool) {
	t.Helper()
	for _, v := range []float64{r.Seconds, r.Rate, r.RateBest} {
		if !(v > 0) || math.IsInf(v, 0) {
			t.Errorf("%s: a figure is %v: %+v", c.Name(), v, r)
		}
	}
	if r.Kernel+" "+r.Shape != c.Name() || r.Unit != c.Limit.Unit || r.LimitName != c.Limit.Name || r.RateBest < r.Rate {
		t.Errorf("%s: result %+v", c.Name(), r)
	}
	limited := r.Unit == gigabytes || hasPeak
	if limited != (r.Limit > 0 && r.LimitBest >= r.Limit && r.Share > 0) {
		t.Errorf("%s: limit %v, best %v, share %v; is there a limit: %v", c.Name(), r.Limit, r.LimitBest, r.Share, limited)
	}
	if want := float64(c.Tokens) / r.Seconds; !(math.Abs(r.TokensPerSec-want) <= 1e-6*want) || (c.Tokens > 0) != (c.Kernel == "training step") {
		t.Errorf("%s: %v tokens a second, want %v", c.Name(), r.TokensPerSec, want)
	}
}

// TestRun gives a run no time, and some.
func TestRun(t *testing.T) {
	d := newCPU(t, 2)
	cases := Cases(tiny())
	for _, seconds := range []float64{1e-9, 0.5} {
		var machine Machine
		var rows []Result
		report, err := Run(t.Context(), d, cases, Options{Seconds: seconds}, func(m Machine) { machine = m }, func(r Result) { rows = append(rows, r) })
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) == 0 || !slices.Equal(rows, report.Results) || len(rows)+len(report.LeftOut) != len(cases)-1 {
			t.Errorf("in %v s: %d rows, %d results and %d left out of %d cases without the extra one", seconds, len(rows), len(report.Results), len(report.LeftOut), len(cases)-1)
		}
		if seconds < 1e-6 && len(rows) != 1 {
			t.Errorf("without time %d cases ran, want 1", len(rows))
		}
		for _, r := range rows {
			if r.Rounds < roundsMin || r.Rounds > roundsMax {
				t.Errorf("%s %s: %d rounds", r.Kernel, r.Shape, r.Rounds)
			}
		}
		if machine.Path != d.Path() || machine.Threads != d.Threads() || len(machine.Choices) == 0 {
			t.Errorf("the machine is %+v, the device %s", machine, d.Name())
		}
		var back Report
		text, err := json.Marshal(report)
		if err == nil {
			err = json.Unmarshal(text, &back)
		}
		if err != nil || !slices.Equal(back.Results, report.Results) || back.Machine.Path != machine.Path {
			t.Errorf("the report is not what its JSON says: %v", err)
		}
	}
}

// TestCasesCoverTheDevice keeps the table from losing a kernel or a name from two uses.
func TestCasesCoverTheDevice(t *testing.T) {
	var names []string
	for _, c := range Cases(Standard(ParametersDefault)) {
		names = append(names, c.Name())
		if !(c.Work > 0) || c.Memory < 1 || c.Limit.Prepare == nil || c.Limit.Unit == "" {
			t.Errorf("%s lacks work, memory or limit: %+v", c.Name(), c)
		}
	}
	for _, kernel := range []string{
		"matmul forward", "matmul dX", "matmul dW", "attention forward", "attention backward", "RMSNorm", "RMSNorm backward", "RoPE",
		"SwiGLU", "SwiGLU backward", "cross-entropy", "embedding gradient", "AdamW", "squared norm", "add", "training step",
	} {
		if !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, kernel+" ") }) {
			t.Errorf("no case of %s", kernel)
		}
	}
	slices.Sort(names)
	if len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Errorf("two cases have one name: %v", names)
	}
}

// TestStepsEqualGPT2InParameters: a GPT-2 has 12·Width² matrix values a layer, and its
// vocabulary; position table, biases and norms are what the two do not share.
func TestStepsEqualGPT2InParameters(t *testing.T) {
	steps := Standard(1).Steps
	for i, want := range map[int]struct{ layers, width, vocab int }{2: {6, 384, 4096}, 3: {12, 768, 50257}} {
		c := steps[i].Config
		matrices := 12*want.width*want.width*want.layers + want.vocab*want.width
		norms := (2*want.layers + 1) * want.width
		if c.Parameters() != matrices+norms {
			t.Errorf("step %d has %d parameters, want %d of matrices and %d of norms", i, c.Parameters(), matrices, norms)
		}
	}
}

func TestPick(t *testing.T) {
	cases := Cases(tiny())
	names := func(only ...string) (names []string) {
		picked, err := pick(cases, only)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range picked {
			names = append(names, c.Name())
		}
		return names
	}
	if got := len(names()); got != len(cases)-1 {
		t.Errorf("%d cases by default, want all %d but the extra", got, len(cases))
	}
	if got := names("ADAMW", "matmul dx 7x5"); !slices.Equal(got, []string{"matmul dX 7x5x3", "AdamW 0k"}) {
		t.Errorf("picked %q", got)
	}
	if got := len(names("training step")); got != 2 {
		t.Errorf("%d training steps where they are named, want the extra, too", got)
	}
	if _, err := pick(cases, []string{"no such"}); !errors.Is(err, ErrNoCase) || !strings.Contains(err.Error(), "attention backward") {
		t.Errorf("the error is %v, want one that names the kernels", err)
	}
}

func TestPlanLeavesOutTheLongest(t *testing.T) {
	limit := Limit{Unit: gigaflops}
	cases := []Case{
		{Kernel: "short", Work: 1e9, Limit: limit}, {Kernel: "longest", Work: 100e9, Limit: limit},
		{Kernel: "long", Work: 10e9, Limit: limit},
	}
	for _, c := range []struct {
		seconds float64
		kept    string
	}{{1e6, "short longest long"}, {60, "short long"}, {10, "short"}, {-1, "short"}} {
		kept, expected, out := plan(cases, 1e9, c.seconds)
		var names []string
		for i, k := range kept {
			names = append(names, k.Kernel)
			if expected[i] < k.Work/1e9 {
				t.Errorf("%s is expected to take %v s", k.Kernel, expected[i])
			}
		}
		if got := strings.Join(names, " "); got != c.kept || len(out)+len(kept) != len(cases) {
			t.Errorf("in %v s: kept %q, left out %v; want %q", c.seconds, got, out, c.kept)
		}
	}
}

func TestRunStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Run(ctx, newCPU(t, 1), Cases(tiny()), Options{Seconds: 100}, nil, nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v, want %v", err, context.Canceled)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 2}, 2}, {[]float64{8, 1, 3, 2}, 2.5}} {
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.values, got, c.want)
		}
	}
}

// TestWhy reads what is said of the path on machines of three kinds.
func TestWhy(t *testing.T) {
	wide := cpu.Choice{Path: "wide", Needs: []string{"A", "B"}, Missing: []string{"B"}}
	narrow := cpu.Choice{Path: "narrow", Needs: []string{"A"}}
	for _, c := range []struct {
		path    string
		choices []cpu.Choice
		want    string
	}{
		{"narrow", []cpu.Choice{narrow}, "narrow, which needs A; there is no faster one"},
		{"narrow", []cpu.Choice{wide, narrow}, "narrow, which needs A; wide is faster and lacks B"},
		{"plain", []cpu.Choice{narrow, {Path: "plain"}}, "plain; narrow is there and was not chosen"},
	} {
		if got := (Machine{Path: c.path, Choices: c.choices}).why(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}
