package transfer

import (
	"slices"
	"testing"
	"time"

	"loco/mesh"
)

// planned is a plan of which a test asks step by step.
type planned struct {
	*Plan
	t   *testing.T
	now time.Time
}

func newPlanned(t *testing.T, chunks, window int, sources ...mesh.ID) *planned {
	p := &planned{NewPlan(chunks, window, patience), t, time.Unix(100, 0)}
	for _, id := range sources {
		p.Add(id)
	}
	return p
}

// ask takes chunks for a source until there is none, and compares.
func (p *planned) ask(id mesh.ID, want ...int) {
	p.t.Helper()
	var got []int
	for {
		c, ok := p.Next(p.now, id)
		if !ok {
			break
		}
		got = append(got, c)
	}
	if !slices.Equal(got, want) {
		p.t.Errorf("%s is asked for %v, want %v", id, got, want)
	}
}

func (p *planned) arrive(id mesh.ID, chunk int, good, want bool) {
	p.t.Helper()
	if got := p.Arrived(p.now, id, chunk, good); got != want {
		p.t.Errorf("chunk %d of %s: new %v, want %v", chunk, id, got, want)
	}
}

func (p *planned) blamed(want ...string) {
	p.t.Helper()
	if !slices.Equal(p.Blame(), want) {
		p.t.Errorf("blamed %q, want %q", p.Blame(), want)
	}
}

func TestPlanAsksForAShareAndNoMoreThanTheWindow(t *testing.T) {
	p := newPlanned(t, 9, 3, "a", "b")
	p.ask("a", 0, 1, 2)
	p.ask("b", 3, 4, 5)
	p.arrive("a", 1, true, true)
	p.ask("a", 6)
	p.ask("c")
	if p.Missing() != 8 || p.Sources() != 2 || p.Has("c") || !p.Has("a") {
		t.Errorf("%d missing, %d sources", p.Missing(), p.Sources())
	}
	// Three chunks for two sources: two each at most, the odd one twice.
	q := newPlanned(t, 3, 8, "a", "b")
	q.ask("a", 0, 1)
	q.ask("b", 2, 1) // stolen: the newest that a is asked for
	if q.arrive("b", 1, true, true); q.Missing() != 2 {
		t.Errorf("%d missing", q.Missing())
	}
	q.arrive("a", 1, true, false) // it came twice
	q.arrive("a", 0, true, true)
	q.arrive("b", 2, true, true)
	q.blamed()
	if q.Missing() != 0 || !q.Has("a") || !q.Has("b") {
		t.Errorf("%d missing", q.Missing())
	}
}

func TestPlanSkipsWhatIsThere(t *testing.T) {
	p := newPlanned(t, 6, 8, "a")
	p.Have(0)
	p.Have(3)
	p.Have(3)
	if p.Missing() != 4 {
		t.Errorf("%d missing", p.Missing())
	}
	p.ask("a", 1, 2, 4, 5)
	p.arrive("a", 3, true, false)
	p.blamed("a: sent chunk 3, which was not asked of it")
	if p.Sources() != 0 || p.Missing() != 4 {
		t.Errorf("%d sources, %d missing", p.Sources(), p.Missing())
	}
	p.arrive("a", 1, true, false) // of a source that is gone
	p.Drop("a", "again")
	p.blamed("a: sent chunk 3, which was not asked of it")
}

func TestPlanGivesBackWhatWasAsked(t *testing.T) {
	p := newPlanned(t, 6, 2, "a", "b", "c")
	p.ask("a", 0, 1)
	p.ask("b", 2, 3)
	p.arrive("b", 2, true, true)
	p.arrive("a", 0, false, false)
	p.blamed("a: sent chunk 0 with a wrong hash")
	p.ask("c", 0, 1) // before those that nobody was asked for
	p.ask("b", 4)
	p.Drop("c", "lost")
	p.blamed("a: sent chunk 0 with a wrong hash", "c: lost")
	p.arrive("b", 3, true, true)
	p.Have(1) // it came by another way
	p.ask("b", 0)
	p.arrive("b", 4, true, true)
	p.ask("b", 5)
	if p.Missing() != 2 {
		t.Errorf("%d missing", p.Missing())
	}
}

// A chunk is asked of two sources; of a third only where that one has given some.
func TestPlanStealsFromTheSourceOfMost(t *testing.T) {
	p := newPlanned(t, 7, 8, "a", "b", "c", "d")
	p.ask("a", 0, 1)
	p.ask("b", 2, 3)
	p.ask("c", 4, 5)
	p.ask("d", 6, 1) // all have two: of the first by name, the newest
	p.arrive("d", 6, true, true)
	p.ask("d", 0) // the newest of a is asked of d already
	p.arrive("d", 0, true, true)
	p.ask("d", 3) // nothing that a is asked for is left
	p.arrive("d", 3, true, true)
	p.ask("d") // 4 are missing of 4 sources, and d is asked for one
	p.Add("e")
	p.ask("e", 2) // not 1, which two are asked for
	p.arrive("e", 2, true, true)
	p.ask("e", 1) // e has given one, so it may be the third
	p.Drop("e", "gone")
	p.Add("f")
	p.ask("f", 5)
	p.Add("g")
	p.ask("g", 4)
	p.Add("h")
	p.ask("h") // two are asked for each of 1, 4 and 5
	if p.Missing() != 3 {
		t.Errorf("%d missing", p.Missing())
	}
}

func TestPlanDropsWhoIsSilentForPatience(t *testing.T) {
	p := newPlanned(t, 8, 2, "b", "a", "idle", "c")
	p.ask("a", 0, 1)
	p.ask("b", 2, 3)
	p.now = p.now.Add(patience / 2)
	p.ask("c", 4, 5)
	p.arrive("b", 2, true, true) // since then b is silent
	p.now = p.now.Add(patience/2 - 1)
	if got := p.Tick(p.now); got != nil {
		t.Errorf("dropped %v before patience ended", got)
	}
	p.now = p.now.Add(1)
	if got := p.Tick(p.now); !slices.Equal(got, []mesh.ID{"a"}) {
		t.Errorf("dropped %v, want a", got)
	}
	p.now = p.now.Add(patience / 2)
	if got := p.Tick(p.now); !slices.Equal(got, []mesh.ID{"b", "c"}) {
		t.Errorf("dropped %v, want b and c", got)
	}
	p.blamed("a: gave nothing for 10s", "b: gave nothing for 10s", "c: gave nothing for 10s")
	if p.now = p.now.Add(time.Hour); p.Tick(p.now) != nil || !p.Has("idle") {
		t.Error("a source that was asked for nothing was dropped")
	}
	p.ask("idle", 0, 1)
}

func TestBucketTimes(t *testing.T) {
	b := NewBucket(1000, 500)
	start := time.Unix(50, 0)
	for i, c := range []struct {
		at   time.Duration
		n    int
		want time.Duration
	}{
		{0, 400, 0}, {0, 100, 0}, {0, 1, time.Millisecond}, {0, 99, 100 * time.Millisecond},
		{50 * time.Millisecond, 100, 150 * time.Millisecond},
		{40 * time.Millisecond, 100, 250 * time.Millisecond}, // time does not go back
		{300 * time.Millisecond, 1, time.Millisecond},
		{time.Hour, 500, 0}, {time.Hour, 500, 500 * time.Millisecond}, // it is full, and no more
	} {
		if got := b.Take(start.Add(c.at), c.n); got != c.want {
			t.Errorf("take %d of %d bytes: wait %v, want %v", i, c.n, got, c.want)
		}
	}
	for _, c := range []struct {
		rate int64
		want time.Duration
	}{{1, 10 * time.Second}, {0, 0}} {
		b := NewBucket(c.rate, 10)
		b.Take(start, 10)
		if got := b.Take(start, 10); got != c.want {
			t.Errorf("at %d bytes a second: wait %v, want %v", c.rate, got, c.want)
		}
	}
}

func TestVotes(t *testing.T) {
	d := func(b byte) [32]byte { return [32]byte{b} }
	voice := func(id string, worker int, round uint64, tokens float64, digest byte, marks ...Mark) Voice {
		return Voice{ID: mesh.ID(id), Worker: worker, Answer: Answer{Ready: true, Round: round, Tokens: tokens, Digest: d(digest), Marks: marks}}
	}
	order := func(voices ...Voice) (ids []mesh.ID) {
		for _, v := range Agree(voices) {
			ids = append(ids, v.ID)
		}
		return ids
	}
	five := []Mark{{Round: 4, Digest: d(4)}, {Round: 5, Digest: d(5)}}
	for _, c := range []struct {
		voices []Voice
		want   []mesh.ID
	}{
		// Tokens, then the round, then the worker, then the name.
		{[]Voice{voice("z", 1, 5, 50, 5, five...), voice("y", 1, 5, 50, 5, five...), voice("x", 2, 5, 50, 5, five...), voice("w", 9, 6, 50, 6, five...), voice("v", 9, 4, 60, 4)}, []mesh.ID{"v"}},
		{[]Voice{voice("z", 1, 5, 50, 5), voice("y", 1, 5, 50, 5), voice("x", 2, 5, 50, 5), voice("u", 0, 4, 40, 4)}, []mesh.ID{"y", "z", "x"}},
		{[]Voice{voice("x", 2, 5, 50, 5, five...), voice("w", 9, 6, 60, 6, five...), voice("u", 0, 4, 40, 4), voice("t", 0, 3, 30, 3)}, []mesh.ID{"w", "x", "u"}},
		// Of equal tokens the side of more members.
		{[]Voice{voice("a", 0, 5, 50, 9), voice("b", 1, 5, 50, 5), voice("c", 2, 5, 50, 5)}, []mesh.ID{"b", "c"}},
		// Of one round, or of one digest alone, they are no side.
		{[]Voice{voice("a", 0, 5, 50, 9), voice("b", 1, 5, 50, 8), voice("c", 2, 6, 50, 9)}, []mesh.ID{"c"}},
		{nil, nil},
	} {
		if got := order(c.voices...); !slices.Equal(got, c.want) {
			t.Errorf("lineage %q, want %q", got, c.want)
		}
	}
	two := []Voice{voice("a", 0, 5, 50, 5, five[0]), voice("b", 1, 6, 60, 6, five...), voice("c", 2, 6, 60, 6, five...)}
	for _, c := range []struct {
		voices []Voice
		round  uint64
		want   [32]byte
		ok     bool
	}{
		{two, 6, d(6), true}, {two, 5, d(5), true}, {two, 4, d(4), true}, {two, 3, d(0), false}, {two, 7, d(0), false},
		{two[:2], 6, d(6), true}, // one is behind and has no word
		{[]Voice{voice("a", 0, 5, 50, 5), voice("b", 1, 5, 50, 9)}, 5, d(0), false}, // half is not more than half
		{[]Voice{voice("a", 0, 5, 50, 5), voice("b", 1, 6, 60, 6)}, 5, d(0), false}, // one of two past it does not know
	} {
		if got, ok := Agreed(c.voices, c.round); got != c.want || ok != c.ok {
			t.Errorf("round %d: %d, %v, want %d, %v", c.round, got[0], ok, c.want[0], c.ok)
		}
	}
	if m, ok := Newest(two); !ok || m != (Mark{Round: 6, Digest: d(6)}) {
		t.Errorf("newest %v, %v", m, ok)
	}
	if m, ok := Newest([]Voice{two[1], two[0]}); !ok || m.Round != 6 {
		t.Errorf("newest %v, %v", m, ok)
	}
}
