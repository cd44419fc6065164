package strategy

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"loco/gossip/exchange"
	"loco/kernels"
	"loco/kernels/cpu"
)

// device is a CPU for tests.
func device(t *testing.T) Device {
	t.Helper()
	d, err := cpu.New(1, kernels.FP32)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// member is a worker of a strategy, its vectors on a device.
type member struct {
	s *Strategy
	v Vectors
}

func newMember(t *testing.T, s *Strategy, d Device, slow []float32) *member {
	t.Helper()
	n := len(slow)
	m := &member{s, Vectors{Device: d, Named: map[string]kernels.Buffer{}}}
	alloc := func() kernels.Buffer {
		b, err := d.Alloc(n)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	m.v.Fast, m.v.Grad = alloc(), alloc()
	for _, spec := range s.Vectors {
		m.v.Named[spec.Name] = alloc()
	}
	d.Upload(m.v.Of(Slow), slow)
	return m
}

func values(b kernels.Buffer) []float32 { return kernels.HostValues(b) }

// round lets members of one group learn, by moving θ to what is given, exchange in float32 and take
// the outer step.
func round(members []*member, number uint64, learnt [][]float32) {
	terms := [exchange.Parts][]exchange.Term{}
	share := 1 / float32(len(members))
	crosses := func(m *member, c Crossing) {
		x := c.Vector(&m.v)
		bytes := make([]byte, kernels.FormatFP32.EncodedLen(x.Len()))
		m.v.Encode(bytes, kernels.FormatFP32, x)
		terms[c.Part] = append(terms[c.Part], exchange.Term{Bytes: bytes, Share: share})
	}
	for _, under := range []bool{true, false} {
		for i, m := range members {
			if !under {
				m.v.Upload(m.v.Fast, learnt[i])
				m.s.Learnt(&m.v)
			}
			for _, c := range m.s.Crossings {
				if (c.Under > 0) == under {
					crosses(m, c)
				}
			}
		}
	}
	for _, m := range members {
		m.v.Round = number
		in := &Landing{Means: terms}
		for i := range in.Formats {
			in.Formats[i] = kernels.FormatFP32
		}
		if len(members) == 1 { // nobody else was there
			in.Means = [exchange.Parts][]exchange.Term{}
		}
		m.s.Outer(&m.v, in)
	}
}

func close32(t *testing.T, what string, got, want []float64) {
	t.Helper()
	for i := range want {
		if !(math.Abs(got[i]-want[i]) <= 1e-5*(1+math.Abs(want[i]))) {
			t.Fatalf("%s: value %d is %v, want %v", what, i, got[i], want[i])
		}
	}
}

func float64s(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}

// drift is what a worker has learnt in a round, given φ: it moves towards a centre of its own.
func drift(slow []float32, worker, number int) []float32 {
	out := slices.Clone(slow)
	for i := range out {
		out[i] += 0.3 * (float32(math.Sin(float64(7*number+3*worker+i))) - out[i])
	}
	return out
}

// Reference: GASLoC, arXiv 2606.11081: θ ← y − (α/2)(yᵢ − yⱼ) + γ(y − y before), y = θ + η(g), and in
// the first round y before is y.
func TestGASLoCIsAcceleratedGossip(t *testing.T) {
	const eta, alpha, gamma = 0.9, 0.8, 0.6
	s, err := New("gasloc", Options{OuterLR: eta, Gamma: alpha, OuterMomentum: gamma})
	if err != nil {
		t.Fatal(err)
	}
	d := device(t)
	phi := [][]float64{{1, -2, 0.5, 3}, {0.5, 1, -1, 2}}
	var pair []*member
	for _, x := range phi {
		slow := make([]float32, len(x))
		for i, v := range x {
			slow[i] = float32(v)
		}
		pair = append(pair, newMember(t, &s, d, slow))
	}
	var before [][]float64
	for r := range 6 {
		var learnt [][]float32
		y := make([][]float64, 2)
		for k, m := range pair {
			theta := drift(values(m.v.Of(Slow)), k, r)
			learnt = append(learnt, theta)
			for i := range theta {
				y[k] = append(y[k], phi[k][i]+eta*(float64(theta[i])-phi[k][i]))
			}
		}
		if r == 0 {
			before = y
		}
		for k := range phi {
			for i := range phi[k] {
				phi[k][i] = y[k][i] - alpha/2*(y[k][i]-y[1-k][i]) + gamma*(y[k][i]-before[k][i])
			}
		}
		before = y
		round(pair, uint64(r), learnt)
		for k, m := range pair {
			close32(t, "φ", float64s(values(m.v.Of(Slow))), phi[k])
		}
	}
}

// Reference: GASLoC with γ = 0, α = 1 and η = 1 is plain averaging of what a pair has reached.
func TestGASLoCWithoutMomentumAveragesPairs(t *testing.T) {
	s, err := New("gasloc", Options{OuterLR: 1, Gamma: 1})
	if err != nil {
		t.Fatal(err)
	}
	d := device(t)
	pair := []*member{newMember(t, &s, d, []float32{1, 2}), newMember(t, &s, d, []float32{3, -4})}
	round(pair, 0, [][]float32{{2, 2}, {4, 6}})
	for _, m := range pair {
		close32(t, "φ", float64s(values(m.v.Of(Slow))), []float64{3, 4})
	}
	round(pair[:1], 1, [][]float32{{7, 8}}) // nobody else was there: it keeps what it has reached
	close32(t, "φ alone", float64s(values(pair[0].v.Of(Slow))), []float64{7, 8})
}

// The edge of stability of random pairs is γ² < 1 − α/2: the variance of the disagreement, by its
// exact recursion, shrinks below the edge and grows above.
func TestGASLoCEdgeOfStability(t *testing.T) {
	for _, alpha := range []float64{0.5, 0.8, 1, 1.2, 1.5} {
		edge := math.Sqrt(1 - alpha/2)
		if g := gaslocGrowth(alpha, 0.99*edge); !(g < 1) {
			t.Errorf("α %v, γ just below the edge: the variance grows by %v a round", alpha, g)
		}
		if g := gaslocGrowth(alpha, 1.01*edge); !(g > 1) {
			t.Errorf("α %v, γ just above the edge: the variance shrinks by %v a round", alpha, g)
		}
		_, err := New("gasloc", Options{OuterLR: 1, Gamma: alpha, OuterMomentum: 1.0001 * edge})
		var wrong *OptionError
		if !errors.As(err, &wrong) || wrong.Keys[0] != "outer_momentum" || !strings.Contains(wrong.Why, "outer_momentum^2 < 1 - gamma/2") {
			t.Errorf("α %v above the edge: %v", alpha, err)
		}
		if _, err := New("gasloc", Options{OuterLR: 1, Gamma: alpha, OuterMomentum: 0.9999 * edge}); err != nil {
			t.Errorf("α %v below the edge: %v", alpha, err)
		}
	}
	// The published contraction of α = 1, γ = 0.5 is 0.792 a round.
	if g := gaslocGrowth(1, 0.5); !(math.Abs(g-0.792) <= 0.002) {
		t.Errorf("α = 1, γ = 0.5: %v a round, want 0.792", g)
	}
}

// gaslocGrowth is by how much the variance of the disagreement of many replicas grows in a round
// without learning, under random pairs: the largest eigenvalue of the recursion of E x², E x·z, E z²,
// where x is a replica's disagreement and z that of the round before.
func gaslocGrowth(alpha, gamma float64) float64 {
	// x' = x − (α/2)(x − x̃) + γ(x − z), z' = x, with x̃, z̃ of another replica, independent of it.
	a, b := 1-alpha/2+gamma, alpha/2
	xx, xz, zz := 1.0, 0.3, 1.0
	growth := 0.0
	for range 4000 {
		nxx := (a*a+b*b)*xx - 2*a*gamma*xz + gamma*gamma*zz
		nxz := a*xx - gamma*xz
		nzz := xx
		growth = nxx / xx
		norm := math.Abs(nxx) + math.Abs(nxz) + math.Abs(nzz)
		xx, xz, zz = nxx/norm, nxz/norm, nzz/norm
	}
	return growth
}

// Reference: Factored Gossip, arXiv 2606.22768, with W1 the mean over everybody and W2 the identity:
// b ← μb + Δ, φ ← mean φ − η(Δ + μb), Δ = φ − θ of the worker's own start.
func TestGlobalM1(t *testing.T) {
	const eta, mu = 0.7, 0.9
	s, err := New("globalm1", Options{OuterLR: eta, OuterMomentum: mu})
	if err != nil {
		t.Fatal(err)
	}
	d := device(t)
	phi := [][]float64{{1, -2, 0.5}, {0.5, 1, -1}, {0, 0, 4}}
	b := make([][]float64, len(phi))
	var all []*member
	for k, x := range phi {
		slow := make([]float32, len(x))
		for i, v := range x {
			slow[i] = float32(v)
		}
		all = append(all, newMember(t, &s, d, slow))
		b[k] = make([]float64, len(x))
	}
	for r := range 5 {
		var learnt [][]float32
		for k, m := range all {
			learnt = append(learnt, drift(values(m.v.Of(Slow)), k, r))
		}
		mean := make([]float64, len(phi[0]))
		for _, x := range phi {
			for i, v := range x {
				mean[i] += v / float64(len(phi))
			}
		}
		for k := range phi {
			for i := range phi[k] {
				delta := phi[k][i] - float64(learnt[k][i])
				b[k][i] = mu*b[k][i] + delta
				phi[k][i] = mean[i] - eta*(delta+mu*b[k][i])
			}
		}
		round(all, uint64(r), learnt)
		for k, m := range all {
			close32(t, "φ", float64s(values(m.v.Of(Slow))), phi[k])
		}
	}
}

// Reference: with everybody in one state GlobalM1 of one worker is DiLoCo of one worker, to the bit.
func TestGlobalM1OfOneIsDiLoCoOfOne(t *testing.T) {
	o := Options{OuterLR: 0.7, OuterMomentum: 0.9}
	var ends [][]float32
	for _, name := range []string{"globalm1", "diloco"} {
		s, err := New(name, o)
		if err != nil {
			t.Fatal(err)
		}
		m := newMember(t, &s, device(t), []float32{1, -2, 0.5, 3})
		for r := range 5 {
			round([]*member{m}, uint64(r), [][]float32{drift(values(m.v.Of(Slow)), 0, r)})
		}
		ends = append(ends, slices.Clone(values(m.v.Of(Slow))))
	}
	if !slices.Equal(ends[0], ends[1]) {
		t.Errorf("GlobalM1 ends at %v, DiLoCo at %v", ends[0], ends[1])
	}
}

// The table: what each strategy keeps and says of itself.
func TestStrategies(t *testing.T) {
	for name, want := range map[string]struct {
		vectors   string
		crossings string // part, with whom, under how many steps
		main      exchange.Part
		traits    Traits
	}{
		"diloco":   {"slow momentum", "0/0/0", exchange.Delta, Traits{Equal: true}},
		"noloco":   {"slow momentum mean", "1/1/all 0/1/0", exchange.Delta, Traits{}},
		"gasloc":   {"slow lag", "0/1/0", exchange.Delta, Traits{Own: true}},
		"globalm1": {"slow momentum mean", "1/0/all", exchange.Slow, Traits{Own: true}},
		"ddp":      {"", "0/0/0", exchange.Delta, Traits{Equal: true, EveryStep: true, Moments: true}},
		"alone":    {"", "", 0, Traits{}},
	} {
		s, err := New(name, Options{OuterLR: 0.7, OuterMomentum: 0.5, Beta: 0.7, Gamma: 0.7, SlowCycle: 1})
		if err != nil {
			t.Fatal(err)
		}
		var vectors, crossings []string
		for _, v := range s.Vectors {
			vectors = append(vectors, v.Name)
		}
		for _, c := range s.Crossings {
			under := "0"
			if c.Under == WholeRound {
				under = "all"
			}
			crossings = append(crossings, string('0'+rune(c.Part))+"/"+string('0'+rune(c.With))+"/"+under)
		}
		if got := strings.Join(vectors, " "); got != want.vectors || s.Name != name {
			t.Errorf("%s: vectors %q, want %q; name %q", name, got, want.vectors, s.Name)
		}
		if got := strings.Join(crossings, " "); got != want.crossings {
			t.Errorf("%s: crossings %q, want %q", name, got, want.crossings)
		}
		if main := s.Main(); (main != nil) != (want.crossings != "") || main != nil && main.Part != want.main {
			t.Errorf("%s: main crossing %+v", name, main)
		}
		if with, any := s.With(); any != (want.crossings != "") || any && (with == Pair) != (name == "noloco" || name == "gasloc") {
			t.Errorf("%s: with %v, %v", name, with, any)
		}
		if s.Traits != want.traits {
			t.Errorf("%s: traits %+v, want %+v", name, s.Traits, want.traits)
		}
		if (s.Outer == nil) != (want.vectors == "") {
			t.Errorf("%s: keeps %q and has an outer step: %v", name, want.vectors, s.Outer != nil)
		}
	}
	carrying, err := New("diloco", Options{SlowCycle: 2})
	if err != nil || !carrying.Carries || len(carrying.Vectors) != 3 || carrying.Vectors[2].Saved {
		t.Errorf("diloco with a slow cycle: %+v, %v", carrying, err)
	}
}

// What is written to the wire and to disk is what the kind of a vector says.
func TestSpecs(t *testing.T) {
	for _, c := range []struct{ got, want Spec }{
		{State("a"), Spec{"a", true, true, true}}, {Residual("b"), Spec{"b", true, false, false}}, {Scratch("c"), Spec{"c", false, false, false}},
	} {
		if c.got != c.want {
			t.Errorf("%+v, want %+v", c.got, c.want)
		}
	}
	s := Strategy{Vectors: []Spec{State(Slow), Residual("error"), State(Momentum)}}
	if got := s.Digests(); !slices.Equal(got, []string{Slow, Momentum}) {
		t.Errorf("digest of %v", got)
	}
	if got := (&Strategy{}).Digests(); !slices.Equal(got, []string{Slow}) {
		t.Errorf("without vectors the digest is of %v", got)
	}
	sums := map[string][32]byte{Slow: {1}, Momentum: {2}, "error": {3}}
	root := s.Root(5, sums)
	sums["error"] = [32]byte{9}
	if s.Root(5, sums) != root {
		t.Error("a residual is in the digest")
	}
	sums[Momentum] = [32]byte{7}
	if s.Root(5, sums) == root || s.Root(6, map[string][32]byte{Slow: {1}, Momentum: {2}}) == root {
		t.Error("the digest does not depend on the momentum, or on the round")
	}
}

func TestNewAndDefaults(t *testing.T) {
	if _, err := New("magic", Options{}); err == nil || !strings.Contains(err.Error(), `"magic"`) || !strings.Contains(err.Error(), "diloco, noloco, ddp, alone, gasloc, globalm1") {
		t.Errorf("an unknown name: %v", err)
	}
	if Defaults("magic") != nil {
		t.Error("an unknown name has defaults")
	}
	for name, want := range map[string][3]any{
		"diloco": {"int8", 0.7, 0.9}, "noloco": {"int8", 0.7, 0.5}, "ddp": {"fp32", 0.7, 0.9}, "gasloc": {"fp32", 1.0, 0.5}, "globalm1": {"int8", 0.7, 0.9}, "alone": {"int8", 0.7, 0.9},
	} {
		d := Defaults(name)
		if got := [3]any{d["codec"], d["outer_lr"], d["outer_momentum"]}; got != want || d["beta"] != 0.7 || d["gamma"] != 0.7 || len(d) != 5 {
			t.Errorf("%s: %v", name, d)
		}
		o := Options{OuterLR: d["outer_lr"].(float64), OuterMomentum: d["outer_momentum"].(float64), Beta: d["beta"].(float64), Gamma: d["gamma"].(float64), SlowCycle: 1}
		if _, err := New(name, o); err != nil {
			t.Errorf("%s refuses its own defaults: %v", name, err)
		}
	}
	_, err := New("noloco", Options{OuterMomentum: 0.9, Gamma: 0.7})
	var wrong *OptionError
	if !errors.As(err, &wrong) || !slices.Equal(wrong.Keys, []string{"gamma", "outer_momentum"}) ||
		!strings.Contains(err.Error(), "gamma: NoLoCo is stable only for 0 < gamma < 2(1 - alpha^2): with sync.outer_momentum (alpha) = 0.9 that is 0 < sync.gamma < 0.38, and sync.gamma is 0.7") {
		t.Errorf("noloco beyond its edge: %v", err)
	}
}

// NoLoCo's spread is told of the vector that the pair has the mean of.
func TestApart(t *testing.T) {
	for _, fast := range []bool{false, true} {
		s, err := New("noloco", Options{OuterMomentum: 0.5, Beta: 0.7, Gamma: 0.7, FastOnly: fast})
		if err != nil {
			t.Fatal(err)
		}
		m := newMember(t, &s, device(t), []float32{1, 2})
		m.v.Upload(m.v.Fast, []float32{5, 6})
		var own []float32
		in := &Landing{Spread: func(x, _ kernels.Buffer) { own = slices.Clone(values(x)) }}
		s.Outer(&m.v, in)
		want := []float32{1, 2}
		if fast {
			want = []float32{5, 6}
		}
		if !slices.Equal(own, want) {
			t.Errorf("θ alone %v: the spread is of %v, want %v", fast, own, want)
		}
	}
}
