package protocol

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestMatchIsAMatching(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 12 {
		workers := r.Perm(40)[:n]
		for round := range uint64(50) {
			alone := 0
			for _, w := range workers {
				partner, ok := Match(7, round, workers, w)
				if !ok {
					alone++
					continue
				}
				shuffled := slices.Clone(workers)
				r.Shuffle(n, func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
				if back, ok := Match(7, round, shuffled, partner); !ok || back != w || partner == w {
					t.Fatalf("round %d of %v: %d has %d, which has %d", round, workers, w, partner, back)
				}
			}
			if alone != n%2 {
				t.Fatalf("round %d of %v: %d are alone", round, workers, alone)
			}
		}
	}
	if _, ok := Match(7, 1, []int{1, 2}, 3); ok {
		t.Error("a worker outside of the set has a partner")
	}
}

func TestMatchIsUniformAndGolden(t *testing.T) {
	counts := map[int]int{}
	for round := range uint64(7000) {
		p, _ := Match(3, round, upTo(8), 0)
		counts[p]++
	}
	for p := 1; p < 8; p++ {
		if counts[p] < 880 || counts[p] > 1120 { // 1000 ± 4σ
			t.Errorf("worker 0 met worker %d in %d of 7000 rounds", p, counts[p])
		}
	}
	var got []int
	for round := range uint64(8) {
		p, _ := Match(1, round, upTo(6), 2)
		got = append(got, p)
	}
	if want := []int{5, 4, 5, 1, 5, 3, 0, 0}; !slices.Equal(got, want) {
		t.Errorf("partners of worker 2 are %v, want %v: every worker must draw the same on every machine", got, want)
	}
}

// The worked examples of docs/protocol.md, by which another implementation can be checked.
func TestDocumentedExamples(t *testing.T) {
	if got, want := Shards(1000, 3, 256), []Span{{0, 512}, {512, 768}, {768, 1000}}; !slices.Equal(got, want) {
		t.Errorf("1,000 values among three are cut into %v, want %v", got, want)
	}
	if got, want := Shards(300, 4, 256), []Span{{0, 256}, {256, 300}, {300, 300}, {300, 300}}; !slices.Equal(got, want) {
		t.Errorf("300 values among four are cut into %v, want %v", got, want)
	}
	for _, c := range []struct {
		round   uint64
		workers []int
		pairs   map[int]int
	}{
		{0, upTo(5), map[int]int{0: 1, 1: 0, 2: 4, 4: 2}},
		{0, []int{0, 1, 3, 4}, map[int]int{0: 1, 1: 0, 3: 4, 4: 3}},
		{1, upTo(5), map[int]int{0: 2, 2: 0, 3: 4, 4: 3}},
	} {
		got := map[int]int{}
		for _, w := range c.workers {
			if p, ok := Match(7, c.round, c.workers, w); ok {
				got[w] = p
			}
		}
		if !maps.Equal(got, c.pairs) {
			t.Errorf("round %d of %v pairs %v, want %v", c.round, c.workers, got, c.pairs)
		}
	}
}

// upTo returns 0 … n−1.
func upTo(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// A worker that only some see, alive or dead, changes the partners of a few.
func TestMatchIsStable(t *testing.T) {
	const n = 200
	all := upTo(n)
	for round := range uint64(50) {
		gone := int(round) * 3
		rest := slices.DeleteFunc(slices.Clone(all), func(w int) bool { return w == gone })
		changed := 0
		for _, w := range rest {
			a, okA := Match(5, round, all, w)
			b, okB := Match(5, round, rest, w)
			if okA != okB || a != b {
				changed++
			}
		}
		if changed != 1 {
			t.Errorf("round %d: without worker %d, %d of %d others have another partner, want its own alone", round, gone, changed, n-1)
		}
	}
}
