package data

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"loco/kernels/splitmix"
)

// counted is tokens that are their own positions.
type counted int64

func (c counted) Len() int64 { return int64(c) }

func (c counted) Read(dst []int32, at int64) error {
	if at < 0 || at+int64(len(dst)) > int64(c) {
		return fmt.Errorf("tokens %d to %d of %d", at, at+int64(len(dst)), int64(c))
	}
	for i := range dst {
		dst[i] = int32(at) + int32(i)
	}
	return nil
}

func TestPermutationIsABijection(t *testing.T) {
	for n := uint64(1); n <= 300; n++ {
		p := newPermutation(n, n*77)
		seen := make([]bool, n)
		for i := range n {
			j := p.at(i)
			if j >= n || seen[j] {
				t.Fatalf("n = %d: %d goes to %d, out of range or taken", n, i, j)
			}
			seen[j] = true
		}
	}
	big := newPermutation(1<<48+3, 1)
	for i := range uint64(1000) {
		if j := big.at(i); j >= 1<<48+3 {
			t.Fatalf("%d goes to %d", i, j)
		}
	}
}

// Where items end up is uniform: χ² over the 10 × 10 cells of (from, to) tenths has
// 81 degrees of freedom, deviation 12.7; neighbours do not stay neighbours.
func TestPermutationMixes(t *testing.T) {
	const n, keys = 1000, 30
	worst, adjacent := 0.0, 0
	for key := range uint64(keys) {
		p := newPermutation(n, splitmix.Mix(key))
		var cells [10][10]float64
		last := uint64(0)
		for i := range uint64(n) {
			j := p.at(i)
			cells[i/100][j/100]++
			if i > 0 && (j == last+1 || last == j+1) {
				adjacent++
			}
			last = j
		}
		chi := 0.0
		for _, row := range cells {
			for _, count := range row {
				chi += (count - 10) * (count - 10) / 10
			}
		}
		worst = max(worst, chi)
	}
	if !(worst <= 81+6*12.7) {
		t.Errorf("χ² up to %.0f, want about 81", worst)
	}
	if adjacent < 20 || adjacent > 110 { // 2 expected a key, 60 in all
		t.Errorf("%d pairs of neighbours stayed neighbours, want about 60", adjacent)
	}
}

// starts runs a sampler for steps batches and returns the first token of each
// window.
func starts(t *testing.T, s *Sampler, first, steps uint64) []int32 {
	t.Helper()
	n := s.cfg.Batch * s.cfg.Context
	inputs, targets := make([]int32, n), make([]int32, n)
	var out []int32
	for step := first; step < first+steps; step++ {
		if err := s.Batch(step, inputs, targets); err != nil {
			t.Fatal(err)
		}
		for i := range inputs {
			if inputs[i] != inputs[i-i%s.cfg.Context]+int32(i%s.cfg.Context) || targets[i] != inputs[i]+1 {
				t.Fatalf("step %d: input %d is %d and its target %d", step, i, inputs[i], targets[i])
			}
		}
		for b := range s.cfg.Batch {
			out = append(out, inputs[b*s.cfg.Context])
		}
	}
	return out
}

func newSampler(t testing.TB, tokens Tokens, cfg SamplerConfig) *Sampler {
	t.Helper()
	s, err := NewSampler(tokens, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// In every epoch each window is seen by one worker, once, and windows do not
// overlap.
func TestWorkersShareAnEpoch(t *testing.T) {
	for _, workers := range []int{1, 3, 4, 7} {
		const context = 16
		tokens := counted(5000)
		for epoch := range uint64(3) {
			var all []int32
			var windows int
			for w := range workers {
				s := newSampler(t, tokens, SamplerConfig{Seed: 5, Worker: w, Workers: workers, Batch: 1, Context: context})
				windows = int(s.Windows())
				all = append(all, starts(t, s, epoch*s.share(), s.share())...)
			}
			slices.Sort(all)
			if len(all) != windows {
				t.Fatalf("%d workers: %d windows seen, want %d", workers, len(all), windows)
			}
			for i := 1; i < len(all); i++ {
				if all[i] != all[i-1]+context {
					t.Fatalf("%d workers, epoch %d: windows at %d and %d", workers, epoch, all[i-1], all[i])
				}
			}
			if all[0] >= context || int64(all[len(all)-1])+context < 5000-2*context {
				t.Errorf("windows cover %d to %d of 5000", all[0], all[len(all)-1]+context)
			}
		}
	}
}

func TestBatchIsAPureFunction(t *testing.T) {
	cfg := SamplerConfig{Seed: 9, Worker: 1, Workers: 2, Batch: 3, Context: 8}
	tokens := counted(400) // an epoch of 24 or 25 windows: eight steps
	whole := starts(t, newSampler(t, tokens, cfg), 0, 40)
	s := newSampler(t, tokens, cfg)
	for _, step := range []uint64{39, 0, 17, 3, 3, 25} { // any order, across epochs
		if got, want := starts(t, s, step, 1), whole[step*3:step*3+3]; !slices.Equal(got, want) {
			t.Errorf("step %d gives windows %v, want %v", step, got, want)
		}
	}
	if n := testing.AllocsPerRun(20, func() {
		if err := s.Batch(30, make([]int32, 24)[:24], make([]int32, 24)[:24]); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("a batch allocates %v times", n)
	}
	for name, change := range map[string]func(*SamplerConfig){
		"seed":   func(c *SamplerConfig) { c.Seed++ },
		"worker": func(c *SamplerConfig) { c.Worker = 0 },
		"joiner": func(c *SamplerConfig) { c.Worker = 2 },
	} {
		other := cfg
		change(&other)
		if slices.Equal(starts(t, newSampler(t, tokens, other), 0, 40), whole) {
			t.Errorf("another %s gives the same windows", name)
		}
	}
	first, second := whole[:24], whole[24:48]
	if slices.Equal(first, second) {
		t.Error("two epochs have one order")
	}
	starts(t, s, 1<<61, 2) // far along, and over the end of 64 bits, windows stay in range
	starts(t, s, 1<<64/3-1, 3)
}

// A worker beyond the plan sees every window of an epoch of its own.
func TestJoinerWalksAllWindows(t *testing.T) {
	tokens := counted(1000)
	var orders [2][]int32
	for i := range orders {
		s := newSampler(t, tokens, SamplerConfig{Worker: 4 + i, Workers: 4, Batch: 1, Context: 10})
		orders[i] = starts(t, s, 0, uint64(s.Windows()))
		sorted := slices.Sorted(slices.Values(orders[i]))
		if len(slices.Compact(sorted)) != 99 {
			t.Errorf("worker %d saw %d windows, want 99", 4+i, len(slices.Compact(sorted)))
		}
	}
	if slices.Equal(orders[0], orders[1]) {
		t.Error("two joiners walk one order")
	}
}

func TestSamplerRefuses(t *testing.T) {
	ok := SamplerConfig{Workers: 3, Batch: 1, Context: 10}
	for _, c := range []struct {
		tokens int64
		change func(*SamplerConfig)
		want   string
	}{
		{39, func(*SamplerConfig) {}, "39 tokens are 2 windows of context = 10, fewer than the 3 workers"},
		{0, func(*SamplerConfig) {}, "0 tokens are 0 windows"},
		{100, func(c *SamplerConfig) { c.Batch = 0 }, "batch = 0"},
		{100, func(c *SamplerConfig) { c.Context = -1 }, "context = -1"},
		{100, func(c *SamplerConfig) { c.Workers = 0 }, "of 0"},
		{100, func(c *SamplerConfig) { c.Worker = -2 }, "worker = -2"},
	} {
		cfg := ok
		c.change(&cfg)
		if _, err := NewSampler(counted(c.tokens), cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want one with %q", err, c.want)
		}
	}
	s := newSampler(t, counted(40), ok)
	if got := len(starts(t, s, 0, 100)); got != 100 {
		t.Errorf("%d windows", got)
	}
}

func TestHeldoutIsEvenlySpaced(t *testing.T) {
	for _, c := range []struct {
		tokens, count int64
		windows       int64
	}{
		{1000, 0, 99}, {1001, 0, 100}, {1000, 300, 30}, {1000, 1, 1}, {1000, 1 << 40, 99}, {11, 0, 1}, {1 << 30, 500, 50},
	} {
		const batch, context = 4, 10
		h, err := NewHeldout(counted(c.tokens), batch, context, c.count)
		if err != nil {
			t.Fatal(err)
		}
		inputs, targets := make([]int32, batch*context), make([]int32, batch*context)
		var at []int64
		total := 0
		for i := range h.Batches() {
			n, err := h.Batch(i, inputs, targets)
			if err != nil {
				t.Fatal(err)
			}
			total += n
			for j, target := range targets {
				if j >= n {
					if target != -1 || inputs[j] != 0 {
						t.Fatalf("padding has input %d and target %d", inputs[j], target)
					}
				} else if target != inputs[j]+1 {
					t.Fatalf("input %d has target %d", inputs[j], target)
				}
			}
			for j := 0; j < n; j += context {
				at = append(at, int64(inputs[j]))
			}
		}
		if int64(len(at)) != c.windows || int64(total) != h.Tokens() || h.Tokens() != c.windows*context {
			t.Errorf("%d tokens, count %d: %d windows, %d targets, Tokens %d; want %d windows", c.tokens, c.count, len(at), total, h.Tokens(), c.windows)
		}
		if at[0] != 0 || len(at) > 1 && at[len(at)-1] != c.tokens-context-1 {
			t.Errorf("windows start at %d to %d of %d tokens", at[0], at[len(at)-1], c.tokens)
		}
		for i := 1; i < len(at); i++ {
			if gap := at[i] - at[i-1]; gap < context || gap > (c.tokens-11)/(c.windows-1)+1 {
				t.Fatalf("windows at %d and %d", at[i-1], at[i])
			}
		}
	}
}

func TestEpochCountsThisWorkersShare(t *testing.T) {
	// 99 windows: workers 0 to 2 take 25 of them, worker 3 takes 24, and worker 4 all.
	for worker, share := range []float64{25, 25, 25, 24, 99} {
		s := newSampler(t, counted(1000), SamplerConfig{Worker: worker, Workers: 4, Batch: 5, Context: 10})
		for _, step := range []uint64{0, 1, 7} {
			if got, want := s.Epoch(step), float64(step)*5/share; got != want {
				t.Errorf("worker %d before step %d: epoch %v, want %v", worker, step, got, want)
			}
		}
	}
}

// failing is tokens of which those from a position on cannot be read.
type failing struct {
	counted
	from int64
}

func (f failing) Read(dst []int32, at int64) error {
	if at+int64(len(dst)) > f.from {
		return fmt.Errorf("tokens at %d cannot be read", at)
	}
	return f.counted.Read(dst, at)
}

func TestBatchesReportWhatCannotBeRead(t *testing.T) {
	in, out := make([]int32, 40), make([]int32, 40)
	s := newSampler(t, failing{1000, 0}, SamplerConfig{Workers: 1, Batch: 4, Context: 10})
	if err := s.Batch(0, in, out); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("sampler: error %v", err)
	}
	h, err := NewHeldout(failing{101, 45}, 4, 10, 0)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := h.Batch(0, in, out); n != 40 || err != nil {
		t.Errorf("held-out batch 0: %d targets, %v", n, err)
	}
	if n, err := h.Batch(1, in, out); n != 0 || err == nil || !strings.Contains(err.Error(), "tokens at 40 cannot be read") {
		t.Errorf("held-out batch 1: %d targets, %v", n, err)
	}
}

// panics returns what f panics with.
func panics(f func()) (said string) {
	defer func() { said = fmt.Sprint(recover()) }()
	f()
	return ""
}

func TestBatchesOfTheWrongSizePanic(t *testing.T) {
	s := newSampler(t, counted(1000), SamplerConfig{Workers: 1, Batch: 4, Context: 10})
	h, err := NewHeldout(counted(1000), 4, 10, 0)
	if err != nil {
		t.Fatal(err)
	}
	right := make([]int32, 40)
	for _, n := range []int{0, 39, 41} {
		wrong := make([]int32, n)
		for said, f := range map[string]func(){
			fmt.Sprintf("data: %d inputs and 40 targets, a batch of 4 times 10 needs 40 of each", n):      func() { _ = s.Batch(0, wrong, right) },
			fmt.Sprintf("data: 40 inputs and %d targets, a batch of 4 times 10 needs 40 of each", n):      func() { _ = s.Batch(0, right, wrong) },
			fmt.Sprintf("data: held-out batch 0 of 25 into %d inputs and 40 targets, want 40 of each", n): func() { _, _ = h.Batch(0, wrong, right) },
			fmt.Sprintf("data: held-out batch 0 of 25 into 40 inputs and %d targets, want 40 of each", n): func() { _, _ = h.Batch(0, right, wrong) },
		} {
			if got := panics(f); got != said {
				t.Errorf("panic %q, want %q", got, said)
			}
		}
	}
	for _, i := range []int{-1, 25} {
		if got, want := panics(func() { _, _ = h.Batch(i, right, right) }), fmt.Sprintf("held-out batch %d of 25", i); !strings.Contains(got, want) {
			t.Errorf("panic %q, want %q", got, want)
		}
	}
}

func TestHeldoutStarts(t *testing.T) {
	for _, c := range []struct {
		tokens, count int64
		want          []int64
	}{
		{11, 0, []int64{0}}, {20, 0, []int64{0}}, {21, 0, []int64{0, 10}}, {30, 0, []int64{0, 19}}, {31, 0, []int64{0, 10, 20}},
		{98, 50, []int64{0, 21, 43, 65, 87}}, {98, 59, []int64{0, 21, 43, 65, 87}}, {98, 1, []int64{0}}, {98, 10, []int64{0}}, {98, 20, []int64{0, 87}},
	} {
		h, err := NewHeldout(counted(c.tokens), 2, 10, c.count)
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for w := range h.windows {
			got = append(got, h.start(w))
		}
		if !slices.Equal(got, c.want) || h.Batches() != (len(got)+1)/2 {
			t.Errorf("%d tokens, count %d: windows at %v in %d batches, want %v", c.tokens, c.count, got, h.Batches(), c.want)
		}
	}
	far, err := NewHeldout(counted(1<<48), 1, 1, 0) // the product of two of these numbers has 96 bits
	if err != nil {
		t.Fatal(err)
	}
	if got := far.start(far.windows - 1); got != 1<<48-2 {
		t.Errorf("the last of 2^48 windows starts at %d", got)
	}
}

func TestHeldoutRefuses(t *testing.T) {
	for _, c := range []struct {
		batch, context int
		count          int64
		want           string
	}{
		{0, 10, 0, "batch = 0, context = 10, tokens = 0: batch and context must be 1 or more, tokens 0 or more"},
		{1, 0, 0, "context = 0"},
		{1, 10, -1, "tokens = -1"},
		{1, 1000, 0, "data: 1000 held-out tokens, one window of context = 1000 needs 1001"},
	} {
		if _, err := NewHeldout(counted(1000), c.batch, c.context, c.count); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
	if h, err := NewHeldout(counted(2), 1, 1, 0); err != nil || h.Tokens() != 1 {
		t.Errorf("the least held-out data: %v", err)
	}
}
